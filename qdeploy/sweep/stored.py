"""What stands in a sweep's folder, and whether it is whole: what is cut is made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from qdeploy.artifact import MANIFEST, sha256_file
from qdeploy.errors import ModelError
from qdeploy.evaluate.predictions import load_predictions

STATISTICS, ROWS, RESULT = "statistics.npz", "rows.jsonl", "sweep.json"
TRIALS, MODEL = "trials", "model"
ENGINE, PREDICTIONS = "engine", "predictions.npz"
ACCURACY, LATENCY, FAILED = "accuracy.json", "latency.json", "failed.json"
STEPS = ("accuracy", "latency")
_LARGE = 1e300  # of whole numbers too, which JSON has of any length
Check = Callable[[Any], bool]


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
    return found if found is not None and _fits(found, _ACCURACY[compared]) else None


def latency_of(folder: Path, shapes: Iterable[tuple[int, int]]) -> dict[str, Any] | None:
    """What `measure_latency` wrote of all these shapes; None where that is not there."""
    found = read_object(folder / LATENCY)
    if found is None or not _fits(found, _LATENCY):
        return None
    timed = found["shapes"]
    wanted = [f"{rows}x{tokens}" for rows, tokens in shapes]
    return found if all(_fits(timed.get(name), _SHAPE) for name in wanted) else None


def note_of(folder: Path, step: str) -> dict[str, Any] | None:
    """When and where a step ran; None where that is not there."""
    found = read_object(folder / f"{step}.ran.json")
    return found if found is not None and _fits(found, _NOTE) else None


def error_of(folder: Path) -> str | None:
    """Why a trial failed; None of one that did not."""
    path = folder / FAILED
    if not path.exists():
        return None
    error = (read_object(path) or {}).get("error")
    return error if isinstance(error, str) else f"{path} is damaged; the next run tries it again."


def is_whole(directory: Path, kind: str) -> bool:
    """Whether a directory holds every file that its manifest lists, byte by byte."""
    listed = listed_files(directory)
    manifest = read_object(directory / MANIFEST) or {}
    if not listed or manifest.get("kind") != kind:
        return False
    digests = manifest["files"]
    try:
        return all(sha256_file(path) == digests[name] for name, path in listed.items())
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


def _fits(found: Any, wanted: Mapping[str, Check]) -> bool:
    """Whether a value is an object with these keys, each of what is expected there."""
    return isinstance(found, dict) and all(
        key in found and check(found[key]) for key, check in wanted.items()
    )


def _number(value: Any) -> bool:
    return _any_number(value) and abs(value) < _LARGE  # NaN is not either


def _any_number(value: Any) -> bool:
    return type(value) in (int, float)  # as JSON has them; true and false are none


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _object_of(wanted: Mapping[str, Check]) -> Check:
    return lambda value: _fits(value, wanted)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_NOTE: Mapping[str, Check] = {"step": _text, "began": _number, "seconds": _number, "where": _text}
_METRICS: Mapping[str, Check] = {
    "accuracy": _number,
    "ci95": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_number, value)),
    "n": _number,
    "constant_predictor": lambda value: isinstance(value, bool),
}
_COMPARED: Mapping[str, Check] = {
    **dict.fromkeys(("drop", "mcnemar_p", "flipped", "agreement"), _number),
    **dict.fromkeys(("sqnr_db", "max_abs_diff"), _or_none(_any_number)),
}
# By whether the trial is compared with a baseline.
_ACCURACY: Mapping[bool, Mapping[str, Check]] = {
    compared: {
        "metrics": _object_of(_METRICS),
        "class_order": _or_none(_text),
        "baseline": _object_of(_COMPARED) if compared else lambda value: value is None,
        "size_mb": _object_of({"total": _number, "weights": _number}),
        "int8": _or_none(_object),
        "warnings": _texts,
    }
    for compared in (True, False)
}
_LATENCY: Mapping[str, Check] = {"shapes": _object, "machine": _text, "date": _text}
_SHAPE: Mapping[str, Check] = {
    "latency_ms": _object_of({"p50": _number, "p95": _number}),
    "speedup": _or_none(_object_of({"ratio": lambda value: _number(value) and value > 0})),
    "memory_mb": _or_none(_object),
    "protocol": _object,
}
