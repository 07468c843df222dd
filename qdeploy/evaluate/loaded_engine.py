"""An engine that is about to be measured, with what stands beside it in its directory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qdeploy.data.lengths import RowLengths
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.open import open_engine
from qdeploy.files.artifact import read_manifest
from qdeploy.files.integrity import SHA256, read_whole, verify
from qdeploy.head import CONFIG, Head, head_of
from qdeploy.schemas.manifest import EngineManifest


@dataclass(frozen=True)
class LoadedEngine:
    """One engine directory, loaded.

    Attributes:
        directory: the engine directory.
        manifest: its `qdeploy.json`.
        engine: the engine.
        encoder: its tokenizer.
        head: what its outputs mean.
    """

    directory: Path
    manifest: EngineManifest
    engine: Engine
    encoder: TextEncoder
    head: Head

    @property
    def longest(self) -> int:
        """Tokens of a row it takes: the model's limit, or that of shapes it was compiled for."""
        largest = self._shape("max")
        return min(self.encoder.max_length, largest[1]) if largest else self.encoder.max_length

    @property
    def rows_taken(self) -> tuple[int, int]:
        """The fewest and the most rows of a run: those of shapes it was compiled for."""
        least, most = self._shape("min"), self._shape("max")
        return least[0] if least else 1, most[0] if most else sys.maxsize

    def _shape(self, name: Literal["min", "max"]) -> Sequence[int] | None:
        """Rows and tokens of a shape it was compiled for; None where it takes any."""
        builder = self.manifest.get("builder")
        shapes = builder.get("shapes") if builder else None
        return shapes.get(name) if shapes else None

    @property
    def taker(self) -> str:
        """Whose limit `longest` is."""
        compiled = self.longest < self.encoder.max_length
        return "the engine (by the --max-shape of its build)" if compiled else "the model"

    @property
    def calibration_lengths(self) -> RowLengths | None:
        """Tokens of the rows it was calibrated on; None where none were, or none is known."""
        found = self.manifest.get("calibration")
        if not found or not found.get("row_lengths"):
            return None
        return RowLengths(tuple(found["row_lengths"]), found["truncated"], found["max_length"])

    @property
    def calibration_hashes(self) -> frozenset[str]:
        """`row_hashes` of the rows it was calibrated on; empty where none were."""
        calibration = self.manifest.get("calibration")
        return frozenset(calibration.get("row_hashes") or ()) if calibration else frozenset()


def load_engine(
    engine_dir: str | Path, threads: int, *, simulate: bool = False, how: str = SHA256
) -> LoadedEngine:
    """Load an engine directory, all of it of one build, whoever replaces it meanwhile.

    Args:
        simulate: of `open_engine`.
        how: of `qdeploy.files.integrity.verify`.

    Raises:
        ModelError: not an engine directory, or files that are missing, broken or others than its
            manifest lists.
        TargetError: its target does not work on this machine.
    """
    directory = Path(engine_dir)

    def load() -> LoadedEngine:
        manifest = read_manifest(directory, "engine")
        verify(directory, manifest, [CONFIG], how=how)
        encoder = TextEncoder.from_directory(directory, how=how)
        engine = open_engine(directory, threads=threads, simulate=simulate, how=how)
        return LoadedEngine(directory, manifest, engine, encoder, head_of(directory, manifest))

    return read_whole(directory, load)
