"""Model directories of tiny checkpoints, each exported once per run of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.files.artifact import read_manifest
from qdeploy.schemas.manifest import ModelManifest
from tests.families import HIDDEN
from tests.once import Once
from tests.tiny import FAMILIES, tiny_checkpoint


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

    def __init__(self, once: Once) -> None:
        self._once = once

    def __call__(
        self, family: str = "bert", task: str = "sequence-classification", **settings: Any
    ) -> Exported:
        if settings.get("hidden") == HIDDEN:
            del settings["hidden"]  # said or not, it is the same checkpoint
        key = (family, task, sorted(settings.items()))

        def make(home: Path) -> None:
            from qdeploy.exporter.export import export_checkpoint

            tiny_checkpoint(home / family, family, task, **settings)
            export_checkpoint(home / family, home / "model")

        if self._once.is_begun(family, key) and not self._once.is_made(family, key):
            self._make_another()
        home, _ = self._once(family, key, make)
        return Exported(home / family, home / "model")

    def _make_another(self) -> None:
        """While another process is at one, a family that will be asked for next."""
        task: tuple[str, list[Any]] = ("sequence-classification", [])
        free = (family for family in FAMILIES if not self._once.is_begun(family, (family, *task)))
        family = next(free, None)
        if family is not None:
            self(family)
