"""What stands in a sweep's folder, and whether it is whole: what is cut is made again.

Fields that the types of `qdeploy.schemas.sweep` do not know are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TypeGuard, TypeVar

import msgspec

from qdeploy.errors import ModelError
from qdeploy.evaluate.predictions import rows_predicted
from qdeploy.files.artifact import MANIFEST
from qdeploy.files.integrity import digest_of
from qdeploy.schemas.sweep import TrialAccuracy, TrialFailure, TrialLatency, TrialNote

T = TypeVar("T")

STATISTICS, ROWS, RESULT = "statistics.npz", "rows.jsonl", "sweep.json"
TRIALS, MODEL = "trials", "model"
OWN = (RESULT, STATISTICS, ROWS, TRIALS, MODEL)
ENGINE, PREDICTIONS = "engine", "predictions.npz"
ACCURACY, LATENCY, FAILED = "accuracy.json", "latency.json", "failed.json"
STEPS = ("accuracy", "latency")


def is_done(step: str, folder: Path, *, compared: bool, shapes: Iterable[tuple[int, int]]) -> bool:
    """Whether a step's results are there and whole, and the note that is written behind them.

    Args:
        step: of `STEPS`.
        folder: of the trial.
        compared: whether it is compared with a baseline.
        shapes: of the latency (rows, tokens).
    """
    if note_of(folder, step) is None:
        return False
    if step == "latency":
        return latency_of(folder, shapes) is not None
    found = accuracy_of(folder, compared=compared)
    return (
        found is not None
        and _predicted(folder / PREDICTIONS) == found["metrics"]["n"]
        and is_whole(folder / ENGINE, "engine")
    )


def accuracy_of(folder: Path, *, compared: bool) -> TrialAccuracy | None:
    """What `measure_accuracy` wrote; None where it is missing, cut or something else."""
    found = read_object(folder / ACCURACY)
    if not _is(found, TrialAccuracy) or (found["baseline"] is not None) is not compared:
        return None
    return found


def latency_of(folder: Path, shapes: Iterable[tuple[int, int]]) -> TrialLatency | None:
    """What `measure_latency` wrote of all these shapes; None where that is not there."""
    found = read_object(folder / LATENCY)
    if not _is(found, TrialLatency):
        return None
    return (
        found if {f"{rows}x{tokens}" for rows, tokens in shapes} <= found["shapes"].keys() else None
    )


def note_of(folder: Path, step: str) -> TrialNote | None:
    """When and where a step ran; None where that is not there."""
    found = read_object(folder / f"{step}.ran.json")
    return found if _is(found, TrialNote) else None


def error_of(folder: Path) -> str | None:
    """Why a trial failed; None of one that did not."""
    path = folder / FAILED
    if not path.exists():
        return None
    found = read_object(path)
    return (
        found["error"]
        if _is(found, TrialFailure)
        else f"{path} is damaged; the next run tries it again."
    )


def is_whole(directory: Path, kind: str) -> bool:
    """Whether a directory holds every file that its manifest lists, byte by byte."""
    listed = listed_files(directory)
    manifest = read_object(directory / MANIFEST) or {}
    digests = manifest.get("files")
    if not listed or not isinstance(digests, dict) or manifest.get("kind") != kind:
        return False
    try:
        return all(digest_of(path) == digests[name] for name, path in listed.items())
    except OSError:
        return False


def listed_files(directory: Path) -> dict[str, Path]:
    """The files that a directory's manifest lists, by name; empty where it has none.

    Files that are none of its own (links, names that lead out of it) are left out.
    """
    files = (read_object(directory / MANIFEST) or {}).get("files")
    if not isinstance(files, dict):
        return {}
    return {name: directory / name for name in sorted(files) if _is_within(name)}


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def read_object(path: Path) -> dict[str, object] | None:
    """The JSON object of a file; None where it is missing, cut or something else.

    Raises:
        OSError: it is there and cannot be read, which making it again would not mend.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _predicted(path: Path) -> int | None:
    """Rows that predictions are of; None where they cannot be read."""
    try:
        return rows_predicted(path)
    except ModelError:
        return None


def _is(found: object, form: type[T]) -> TypeGuard[T]:
    """Whether a value has a form."""
    try:
        msgspec.convert(found, form)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True
