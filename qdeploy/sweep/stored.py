"""What stands in a sweep's folder, and whether it is whole: what is cut is made again.

The forms below are what is read back of it; other fields are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from qdeploy.errors import ModelError
from qdeploy.evaluate.predictions import load_predictions
from qdeploy.files.artifact import MANIFEST
from qdeploy.files.integrity import digest_of

T = TypeVar("T")

STATISTICS, ROWS, RESULT = "statistics.npz", "rows.jsonl", "sweep.json"
TRIALS, MODEL = "trials", "model"
OWN = (RESULT, STATISTICS, ROWS, TRIALS, MODEL)
ENGINE, PREDICTIONS = "engine", "predictions.npz"
ACCURACY, LATENCY, FAILED = "accuracy.json", "latency.json", "failed.json"
STEPS = ("accuracy", "latency")
_LARGE = 1e300  # of whole numbers too, which JSON has of any length
Number = Annotated[float, Meta(ge=-_LARGE, le=_LARGE)]  # NaN is none
Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Note(msgspec.Struct):
    step: str
    began: Number
    seconds: Number
    where: str


class _Metrics(msgspec.Struct):
    accuracy: Number
    ci95: tuple[Number, Number]
    n: Count
    constant_predictor: bool


class _Compared(msgspec.Struct):
    drop: Number
    mcnemar_p: Number
    flipped: Number
    agreement: Number
    sqnr_db: float | None  # infinite where no answer moved
    max_abs_diff: float | None


class _Size(msgspec.Struct):
    total: Number
    weights: Number


class _Accuracy(msgspec.Struct):
    metrics: _Metrics
    class_order: str | None
    baseline: _Compared | None
    size_mb: _Size
    int8: dict[str, Any] | None
    warnings: list[str]


class _Percentiles(msgspec.Struct):
    p50: Number
    p95: Number


class _Speedup(msgspec.Struct):
    ratio: Annotated[float, Meta(gt=0, le=_LARGE)]


class _Shape(msgspec.Struct):
    latency_ms: _Percentiles
    speedup: _Speedup | None
    memory_mb: dict[str, Any] | None
    protocol: dict[str, Any]


class _Latency(msgspec.Struct):
    shapes: dict[str, Any]
    machine: str
    date: str


class _Failed(msgspec.Struct):
    error: str


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


def accuracy_of(folder: Path, *, compared: bool) -> dict[str, Any] | None:
    """What `measure_accuracy` wrote; None where it is missing, cut or something else."""
    found = read_object(folder / ACCURACY)
    form = _as(found, _Accuracy)
    return found if form is not None and (form.baseline is not None) is compared else None


def latency_of(folder: Path, shapes: Iterable[tuple[int, int]]) -> dict[str, Any] | None:
    """What `measure_latency` wrote of all these shapes; None where that is not there."""
    found = read_object(folder / LATENCY)
    form = _as(found, _Latency)
    if form is None:
        return None
    timed = [form.shapes.get(f"{rows}x{tokens}") for rows, tokens in shapes]
    return found if all(_as(one, _Shape) for one in timed) else None


def note_of(folder: Path, step: str) -> dict[str, Any] | None:
    """When and where a step ran; None where that is not there."""
    found = read_object(folder / f"{step}.ran.json")
    return found if _as(found, _Note) else None


def error_of(folder: Path) -> str | None:
    """Why a trial failed; None of one that did not."""
    path = folder / FAILED
    if not path.exists():
        return None
    form = _as(read_object(path), _Failed)
    return form.error if form else f"{path} is damaged; the next run tries it again."


def is_whole(directory: Path, kind: str) -> bool:
    """Whether a directory holds every file that its manifest lists, byte by byte."""
    listed = listed_files(directory)
    manifest = read_object(directory / MANIFEST) or {}
    if not listed or manifest.get("kind") != kind:
        return False
    digests = manifest["files"]
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


def read_object(path: Path) -> dict[str, Any] | None:
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
        return len(load_predictions(path).logits)
    except ModelError:
        return None


def _as(found: Any, form: type[T]) -> T | None:
    """A value as a form; None where it has another one."""
    try:
        return msgspec.convert(found, form)
    except (msgspec.ValidationError, RecursionError):
        return None
