"""Graphs that keep every rule and stop when they run."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import qdeploy
from qdeploy.analyze.segments import SegmentedModel
from qdeploy.autotune.target import build_fastest
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.passes.equivalence import run_once
from qdeploy.errors import MachineError, RunError, TargetError
from qdeploy.graph import session as runs
from tests.deploy.conftest import Built, Source
from tests.deploy.refusals import written
from tests.manifests import sign


def _out_of_range(model: onnx.ModelProto) -> None:
    first = next(made for made in model.graph.node if made.op_type == "Gather")
    first.input[1] = "bad"
    model.graph.initializer.append(numpy_helper.from_array(np.array([[10**9, -(10**12)]]), "bad"))


def _bad_reshape(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT64 and tensor.dims:
            tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), -7), tensor.name))


STOPPING = {"out of range": _out_of_range, "bad reshape": _bad_reshape}


def stopping(kind: str, directory: Path, copy: Path) -> Path:
    """A copy of a directory whose graph stops, with right hashes; its file."""
    shutil.copytree(directory, copy)
    path = copy / "model.onnx"
    model = onnx.load_model(path)
    STOPPING[kind](model)
    path.write_bytes(model.SerializeToString())
    sign(copy)
    return path


def told(caught: pytest.ExceptionInfo[RunError], path: Path) -> None:
    """The user's file, what happened, and what to do; no folder of our own."""
    text = str(caught.value)
    assert text.startswith(f"{path} ") and text.endswith("again.")
    assert ".partial" not in text and "/qdeploy-" not in text
    reasons = ("out of data bounds", "mismatch", "invalid bounds", "Unexpected axis", "of range")
    assert any(reason in text for reason in reasons)


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("kind", STOPPING)
def test_an_engine_that_stops(
    kind: str, target: str, engine: Callable[..., Built], tmp_path: Path
) -> None:
    built = engine(strategy="fp32", target=target).directory
    path = stopping(kind, built, tmp_path / "e")
    with pytest.raises(RunError) as caught:
        qdeploy.load(path.parent).predict([("who", "the king")])
    told(caught, path)
    with pytest.raises(RunError) as caught:
        qdeploy.evaluate(path.parent, limit=4, latency=False)
    told(caught, path)


@pytest.mark.parametrize("strategy", ["fp32", "dynamic", "w8a8", "peg"])
@pytest.mark.parametrize("kind", STOPPING)
def test_a_model_that_stops(kind: str, strategy: str, bert: Source, tmp_path: Path) -> None:
    path = stopping(kind, bert.directory, tmp_path / "m")
    shutil.rmtree(path.parent / "calibration", ignore_errors=True)
    with warnings.catch_warnings(), pytest.raises(RunError) as caught:
        warnings.simplefilter("ignore")
        qdeploy.build(path.parent, tmp_path / "e", strategy=strategy, calibration_rows=8)
    told(caught, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_model_that_stops_for_others(bert: Source, tmp_path: Path) -> None:
    path = stopping("out of range", bert.directory, tmp_path / "m")
    shutil.rmtree(path.parent / "calibration", ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RunError) as caught:
            qdeploy.calibrate(path.parent, calibration_rows=8)
        told(caught, path)
        with pytest.raises(TargetError, match="No target takes this build.*cannot be used"):
            build_fastest(path.parent, tmp_path / "e", BuildOptions(strategy="fp32"))


def test_sessions_of_copies(bert: Source) -> None:
    """`analyze` and the proof of a rewrite run graphs of which no file stays."""
    model, structure = bert.graph()
    feeds = bert.feeds(2)
    wrong = {name: array.astype(np.float32) for name, array in feeds.items()}
    with pytest.raises(RunError, match="does not run in ONNX Runtime"):
        run_once(model, wrong)
    segmented = SegmentedModel(model, structure)
    with pytest.raises(RunError, match="does not run in ONNX Runtime"):
        segmented.run(wrong, {})


def test_memory_stays_the_machine_s(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="Out of memory"), runs.running(tmp_path, "OpenVINO"):
        raise RuntimeError("Exception from core.cpp:1:\nstd::bad_alloc")
    with pytest.raises(KeyboardInterrupt), runs.running(tmp_path, "OpenVINO"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Exception from a.cpp:1:\nException from b.cpp:2:\nCheck 'c' failed at d:\nAxis 7\n\n",
         "Axis 7"),
        ("Exception from a.cpp:1:\nModel wasn't fully converted.\nSummary:\n-- No rule for Nope-20",
         "No rule for Nope-20"),
        ("[ONNXRuntimeError] : 1 : FAIL : bad.", "[ONNXRuntimeError] : 1 : FAIL : bad"),
        ("only:\n", "only:"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_the_line_that_gives_a_reason(text: str, reason: str) -> None:
    assert runs.reason_of(RuntimeError(text)) == reason


def test_a_file_that_does_not_load_is_named_once(tmp_path: Path) -> None:
    path = written(tmp_path, b"no graph")
    with pytest.raises(RunError) as caught, runs.blaming(path):
        open_session(path, session_options(1))
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "cannot be used" not in str(caught.value)
