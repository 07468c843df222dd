"""Where a report goes beside the result: checked before the work, written after it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qdeploy.errors import OutputError
from qdeploy.files.artifact import read_manifest
from qdeploy.files.kept import note
from qdeploy.files.whole import check_file, check_reports, write_file
from qdeploy.report import analysis, analysis_pictures, comparison, evaluation, sweep
from qdeploy.report.card import model_card
from qdeploy.report.page import Page, remedy, render
from qdeploy.schemas.analysis import is_analysis
from qdeploy.schemas.comparison import is_comparison
from qdeploy.schemas.evaluation import is_evaluation
from qdeploy.schemas.sweep import is_sweep


@dataclass(frozen=True)
class Outputs:
    """Files to write from one report; None for those not wanted.

    Attributes:
        html: one self-contained page.
        plot: folder of PNGs (analysis, sweep).
        card: a model card, Markdown (evaluation).
        made: folder that the command itself makes; a page may go into it.
        given: files and directories that are read, and that no report may replace; names of
            something else, and None, are passed over.
    """

    html: Path | None = None
    plot: Path | None = None
    card: Path | None = None
    made: Path | None = None
    given: tuple[str | Path | None, ...] = ()

    def __post_init__(self) -> None:
        files = {"--html": self.html, "--card": self.card}
        wanted = {flag: path for flag, path in files.items() if path is not None}
        for flag, path in wanted.items():
            if path.parent != self.made or path.parent.exists():
                check_file(flag, path)
        check_reports(wanted, self.given)
        if self.plot is not None and self.plot.exists() and not self.plot.is_dir():
            raise OutputError(f"--plot {self.plot} is a file. Name a directory.")
        drawn = self.html is not None or self.plot is not None
        if drawn and not all(map(importlib.util.find_spec, ("jinja2", "matplotlib"))):
            raise OutputError(remedy())

    def write(self, report: Mapping[str, object]) -> None:
        """Write what is wanted.

        Raises:
            OutputError: a file cannot be written; its attribute `report` is the report.
        """
        try:
            self._write(report)
        except OutputError as error:
            error.report = report
            raise

    def _write(self, report: Mapping[str, object]) -> None:
        if self.html is not None:
            _write_text("--html", self.html, render(_page(report)))
        if self.plot is not None:
            _plot(report, self.plot)
            note("--plot", f"{self.plot} was written")
        if self.card is not None and is_evaluation(report):
            manifest = read_manifest(Path(report["engine"]), "engine")
            _write_text("--card", self.card, model_card(report, manifest))


def _page(report: Mapping[str, object]) -> Page:
    if is_evaluation(report):
        return evaluation.page(report)
    if is_analysis(report):
        return analysis.page(report)
    if is_comparison(report):
        return comparison.page(report)
    assert is_sweep(report)
    return sweep.page(report)


def _plot(report: Mapping[str, object], folder: Path) -> None:
    if is_analysis(report):
        analysis_pictures.write_pngs(report, folder)
    elif is_sweep(report):
        sweep.write_png(report, folder)


def _write_text(flag: str, path: Path, text: str) -> None:
    write_file(flag, path, text.encode("utf-8", "backslashreplace"))
    note(flag, f"{path} was written")
