"""Model directories of tiny checkpoints, each exported once per run of the tests.

Processes of the same run share them through the run's temporary folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qdeploy.files.artifact import read_manifest
from qdeploy.schemas.manifest import ModelManifest


@dataclass(frozen=True)
class Exported:
    """A tiny checkpoint and its model directory; neither is to be changed."""

    checkpoint: Path
    model_dir: Path

    @property
    def manifest(self) -> ModelManifest:
        """The manifest that export wrote."""
        return read_manifest(self.model_dir, "model")


class Exports:
    """Call it with a family, and what else `tests.tiny.tiny_checkpoint` takes."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        base = factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        self._home = shared / "exports"
        self._home.mkdir(exist_ok=True)

    def __call__(
        self, family: str = "bert", task: str = "sequence-classification", **settings: Any
    ) -> Exported:
        key = repr((family, task, sorted(settings.items())))
        home = self._home / f"{family}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        found = Exported(home / family, home / "model")
        with (self._home / f"{home.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it
            if not (home / "model").is_dir():
                self._make(found, family, task, settings)
        return found

    @staticmethod
    def _make(found: Exported, family: str, task: str, settings: dict[str, Any]) -> None:
        from qdeploy.exporter.export import export_checkpoint
        from tests.tiny import tiny_checkpoint

        if not found.checkpoint.is_dir():
            tiny_checkpoint(found.checkpoint, family, task, **settings)
        export_checkpoint(found.checkpoint, found.model_dir)  # whole, or absent
