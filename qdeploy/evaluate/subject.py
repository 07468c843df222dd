"""An engine that is about to be measured, with what stands beside it in its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.artifact import read_manifest
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine, open_engine
from qdeploy.errors import PlanError
from qdeploy.head import Head, head_of


@dataclass(frozen=True)
class Subject:
    """One engine directory, loaded.

    Attributes:
        directory: the engine directory.
        manifest: its `qdeploy.json`.
        engine: the engine.
        encoder: its tokenizer.
        head: what its outputs mean.
    """

    directory: Path
    manifest: dict[str, Any]
    engine: Engine
    encoder: TextEncoder
    head: Head

    def require_classifier(self) -> None:
        """Refuse a head of which accuracy says nothing.

        Raises:
            PlanError: not exactly one class of a row is its answer.
        """
        if not self.head.chooses:
            raise PlanError(
                f"Accuracy is for classifiers of sequences that choose one class, and "
                f"{self.directory} is a {self.head.description} ({self.head.task}). Measure its "
                "latency alone, with accuracy off (--no-accuracy); qdeploy.load(...).logits() "
                "gives its outputs."
            )

    @property
    def calibration_hashes(self) -> frozenset[str]:
        """`row_hashes` of the rows it was calibrated on; empty where none were."""
        calibration = self.manifest.get("calibration") or {}
        return frozenset(calibration.get("row_hashes") or ())


def open_subject(engine_dir: str | Path, threads: int, *, simulate: bool = False) -> Subject:
    """Load an engine directory; see `open_engine` for `simulate`.

    Raises:
        ModelError: not an engine directory, or its tokenizer is missing or broken.
        TargetError: its target does not work on this machine.
    """
    directory = Path(engine_dir)
    manifest = read_manifest(directory, "engine")
    encoder = TextEncoder.from_directory(directory)
    engine = open_engine(directory, threads=threads, simulate=simulate)
    return Subject(directory, manifest, engine, encoder, head_of(directory, manifest))
