"""A file of a trial that is cut or foreign makes its step run again; nothing of it is a crash."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data.lengths import RowLengths
from qdeploy.errors import ModelError
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.labels import ClassOrder
from qdeploy.evaluate.predictions import load_predictions, save_predictions
from qdeploy.files.artifact import write_json, write_manifest
from qdeploy.sweep.stored import STEPS, error_of, is_done, is_whole, listed_files, read_object

ROWS = 5
COMPARED = {"drop": 0.0, "drop_ci95": None, "mcnemar_p": 1.0, "flipped": 0, "agreement": 1.0}
ACCURACY: dict[str, Any] = {
    "metrics": {
        "metric": "accuracy",
        "value": 0.5,
        "ci95": [0.1, 0.9],
        "n": ROWS,
        "constant_predictor": False,
    },
    "class_order": None,
    "baseline": COMPARED | {"sqnr_db": None, "max_abs_diff": 0.0},
    "size_mb": {"total": 1.0, "weights": 1.0},
    "int8": {
        "planned": 1,
        "executed": 1,
        "planned_share": 1.0,
        "executed_share": 1.0,
        "flops_share": 1.0,
        "time_share": None,
        "fallbacks": [],
        "unplanned": [],
        "gemms": {},
        "flops_measured": True,
        "summary": "all",
        "short": "all",
    },
    "warnings": [],
}
LATENCY = {
    "shapes": {
        "2x16": {
            "latency_ms": {"p50": 1.0, "p95": 2.0},
            "speedup": {"ratio": 1.5, "ci95": [1.4, 1.6]},
            "memory_mb": {"peak": 1.0},
            "protocol": {},
            "throughput": {"rows_per_s": 1.0},
        }
    },
    "machine": "this",
    "date": "2026-01-01",
}
FILES = (
    *("accuracy.json", "accuracy.ran.json", "latency.json", "latency.ran.json"),
    *("predictions.npz", "engine/qdeploy.json", "engine/model.onnx", "engine/plan.json"),
)
OF_LATENCY = ("latency.json", "latency.ran.json")


def done(folder: Path, step: str) -> bool:
    return is_done(step, folder, compared=True, shapes=[(2, 16)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that is done."""
    folder = tmp_path_factory.mktemp("finished") / "trial"
    (folder / "engine").mkdir(parents=True)
    (folder / "engine" / "model.onnx").write_bytes(bytes(range(100)))
    write_json(folder / "engine" / "plan.json", {"sites": ["x" * 60]})
    write_manifest(folder / "engine", "engine", {})
    write_json(folder / "accuracy.json", ACCURACY)
    write_json(folder / "latency.json", LATENCY)
    for step in STEPS:
        note = {"step": step, "began": 1.0, "seconds": 2.0, "where": "here", "error": None}
        write_json(folder / f"{step}.ran.json", note)
    order = ClassOrder(("a", "b"), "the model")
    logits = np.zeros((ROWS, 2), np.float32)
    lengths = RowLengths((3,) * ROWS, 0, 16)
    judged = Judged(order, logits, np.zeros(ROWS, np.int64), lengths, "names")
    save_predictions(judged, folder / "predictions.npz")
    return folder


@pytest.fixture
def trial(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "trial")
    return tmp_path / "trial"


def test_a_finished_trial_is_done(finished: Path) -> None:
    assert [done(finished, step) for step in STEPS] == [True, True]
    assert error_of(finished) is None
    assert not is_done("accuracy", finished, compared=False, shapes=[])  # it has a baseline
    assert not is_done("latency", finished, compared=True, shapes=[(2, 16), (4, 16)])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 1, 40, None])
def test_a_file_that_is_cut_or_missing_repeats_its_step_alone(
    name: str, left: int | None, trial: Path
) -> None:
    path = trial / name
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    assert done(trial, "accuracy") is (name in OF_LATENCY)
    assert done(trial, "latency") is (name not in OF_LATENCY)


@pytest.mark.parametrize("name", ["engine", "predictions.npz", "accuracy.json"])
def test_another_kind_of_thing_repeats_it_too(name: str, trial: Path) -> None:
    path = trial / name
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()
    assert not done(trial, "accuracy")


def test_a_changed_byte_of_the_engine_is_seen_and_a_note_beside_it_is_not(trial: Path) -> None:
    (trial / "engine" / "notes.txt").touch()
    assert is_whole(trial / "engine", "engine")
    content = bytearray((trial / "engine" / "model.onnx").read_bytes())
    content[50] ^= 1
    (trial / "engine" / "model.onnx").write_bytes(content)
    assert not is_whole(trial / "engine", "engine")
    assert not is_whole(trial / "engine", "model")


def test_only_listed_files_within_the_directory_are_named(trial: Path) -> None:
    engine = trial / "engine"
    (engine / ".env").write_text("secret")
    manifest: dict[str, Any] = json.loads((engine / "qdeploy.json").read_text())
    assert set(listed_files(engine)) == {"model.onnx", "plan.json"}
    manifest["files"] |= {"../x": "0", "/etc/passwd": "0", "a/../../x": "0"}
    write_json(engine / "qdeploy.json", manifest)
    assert set(listed_files(engine)) == {"model.onnx", "plan.json"}


PREDICTED: dict[str, dict[str, Any]] = {
    "text": {"about": "{"},
    "another form": {"about": "[]"},
    "a name that is a number": {"about": lambda text: text.replace('"a"', "1")},
    "negative lengths": {"about": lambda text: text.replace("3", "-3", 1)},
    "other classes": {"logits": np.zeros((ROWS, 3), np.float32)},
    "float64": {"logits": np.zeros((ROWS, 2))},
    "one axis": {"logits": np.zeros(ROWS, np.float32)},
    "labels of other rows": {"gold": np.zeros(ROWS + 1, np.int64)},
    "labels of no class": {"gold": np.full(ROWS, 2)},
    "labels that are texts": {"gold": np.full(ROWS, "a")},
}


@pytest.mark.parametrize("fault", PREDICTED)
def test_impossible_predictions_are_refused_with_their_name(fault: str, trial: Path) -> None:
    path = trial / "predictions.npz"
    with np.load(path) as found:
        arrays = dict(found)
    for name, value in PREDICTED[fault].items():
        text = value(str(arrays[name])) if callable(value) else value
        arrays[name] = np.array(text)
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(ModelError, match=re.escape(f"{path} holds no predictions (")):
        load_predictions(path)
    assert not done(trial, "accuracy") and done(trial, "latency")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.sampled_from([0, -1, 10**400])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*at, key)
        yield from _places(inner, (*at, key))


CONTENTS = {"accuracy": ACCURACY, "latency": LATENCY}
PLACES = [(step, at) for step, content in CONTENTS.items() for at in _places(content)]


@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_taken_or_repeated(
    finished: Path, place: tuple[str, tuple[Any, ...]], value: Any
) -> None:
    step, at = place
    path = finished / f"{step}.json"
    whole = path.read_text()
    changed = json.loads(whole)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    try:
        path.write_text(json.dumps(changed))
        assert done(finished, step) in (True, False)
    finally:
        path.write_text(whole)


@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_content_of_a_failure_is_told(finished: Path, content: bytes) -> None:
    path = finished / "failed.json"
    try:
        path.write_bytes(content)
        assert isinstance(error_of(finished), str)
        assert read_object(path) is None or isinstance(read_object(path), dict)
    finally:
        path.unlink()
