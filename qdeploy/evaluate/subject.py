"""An engine that is about to be measured, with what stands beside it in its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.artifact import read_json, read_manifest
from qdeploy.data.lengths import RowLengths
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine, open_engine

_CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Subject:
    """One engine directory, loaded.

    Attributes:
        directory: the engine directory.
        manifest: its `qdeploy.json`.
        engine: the engine.
        encoder: its tokenizer.
    """

    directory: Path
    manifest: dict[str, Any]
    engine: Engine
    encoder: TextEncoder

    @property
    def classifies(self) -> bool:
        """Whether accuracy means anything for it."""
        return bool(self.manifest["task"] == "sequence-classification")

    @property
    def chooses(self) -> bool:
        """Whether exactly one class of a row is its answer: what accuracy is about."""
        return self.classifies and self.description == _CLASSIFIER

    @property
    def description(self) -> str:
        """What its head does, for a reader."""
        if not self.classifies:
            return f"{self.manifest['task']} engine"
        path = self.directory / "config.json"
        kind = read_json(path).get("problem_type") if path.is_file() else None
        if kind == "multi_label_classification":
            return "multi-label classifier"
        one = len(self.manifest["labels"]) < 2
        return "regression" if one or kind == "regression" else _CLASSIFIER

    @property
    def longest(self) -> int:
        """Tokens of a row it takes: the model's limit, or that of shapes it was compiled for."""
        largest = (self.manifest.get("builder") or {}).get("shapes", {}).get("max")
        return min(self.encoder.max_length, largest[1]) if largest else self.encoder.max_length

    @property
    def taker(self) -> str:
        """Whose limit `longest` is."""
        compiled = self.longest < self.encoder.max_length
        return "the engine (by the --max-shape of its build)" if compiled else "the model"

    @property
    def calibration_lengths(self) -> RowLengths | None:
        """Tokens of the rows it was calibrated on; None where none were, or none is known."""
        found = self.manifest.get("calibration") or {}
        if not found.get("row_lengths"):
            return None
        return RowLengths(tuple(found["row_lengths"]), found["truncated"], found["max_length"])

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
    return Subject(directory, manifest, engine, encoder)
