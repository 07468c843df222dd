"""Where a report goes beside the result: checked before the work, written after it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.artifact import read_manifest
from qdeploy.errors import OutputError
from qdeploy.report import analysis, evaluation, sweep
from qdeploy.report.card import model_card
from qdeploy.report.page import REMEDY, render, write_text

_PAGES = {"analysis": analysis.page, "evaluation": evaluation.page, "sweep": sweep.page}
_PLOTS = {"analysis": analysis.write_pngs, "sweep": sweep.write_png}


@dataclass(frozen=True)
class Outputs:
    """Files to write from one report; None for those not wanted.

    Attributes:
        html: one self-contained page.
        plot: folder of PNGs (analysis, sweep).
        card: a model card, Markdown (evaluation).
        made: folder that the command itself makes; a page may go into it.
    """

    html: Path | None = None
    plot: Path | None = None
    card: Path | None = None
    made: Path | None = None

    def __post_init__(self) -> None:
        for flag, path in (("--html", self.html), ("--card", self.card)):
            if path is not None and (path.parent != self.made or path.parent.exists()):
                _check_file(flag, path)
        if self.plot is not None and self.plot.exists() and not self.plot.is_dir():
            raise OutputError(f"--plot {self.plot} is a file. Name a directory.")
        drawn = self.html is not None or self.plot is not None
        if drawn and not all(map(importlib.util.find_spec, ("jinja2", "matplotlib"))):
            raise OutputError(REMEDY)

    def write(self, report: Mapping[str, Any]) -> None:
        """Write what is wanted.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.html is not None:
            write_text(self.html, render(_PAGES[report["kind"]](report)))
        if self.plot is not None:
            _PLOTS[report["kind"]](report, self.plot)
        if self.card is not None:
            manifest = read_manifest(Path(report["engine"]), "engine")
            write_text(self.card, model_card(report, manifest))


def _check_file(flag: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{flag} {path}: the directory {path.parent} does not exist. Make it.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{flag} {path} cannot be written. Name a file in another place.")
