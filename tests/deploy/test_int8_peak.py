"""The GEMMs of an engine, and how fast each can be alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qdeploy.deploy import int8_peak
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.int8_peak import GemmShape, int8_shapes, measure_peak
from qdeploy.evaluate.run import evaluate_engine
from tests.deploy.conftest import Built

SHAPE = GemmShape(64, 32, 48)
FIXED: Any = {"limit": 16, "batch_size": 4, "seq_len": 16, "warmup": 1, "iterations": 6}


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("padding", ["kept", "removed"])
def test_shapes_have_the_operations_of_the_certificate(
    target: str, padding: str, engine: Callable[..., Built]
) -> None:
    directory = engine("bert", strategy="w8a8", target=target, padding=padding).directory
    certificate = read_certificate(directory)
    ones = np.ones((2, 8), np.int64)
    feeds = {"input_ids": 5 * ones, "attention_mask": ones, "token_type_ids": 0 * ones}
    full = int8_shapes(directory / "model.onnx", certificate, feeds)
    planned = certificate["planned_gemms"].values()
    marks = [len(gemm["marks"]) for gemm in planned if gemm["precision"] == "int8"]
    assert sum(full.values()) == sum(marks)
    # half of the tokens are padding
    feeds["attention_mask"] = ones * (np.arange(8) < 4)
    half = int8_shapes(directory / "model.onnx", certificate, feeds)
    rows = {shape.rows for shape in full}, {shape.rows for shape in half}
    assert 16 in rows[0] and (8 if padding == "removed" else 16) in rows[1]


def test_the_fastest_runtime_of_each_shape_counts() -> None:
    shapes = Counter({SHAPE: 3, replace(SHAPE, rows=8): 1})
    found = measure_peak(shapes, threads=1)
    assert found is not None and found.ms > 0
    assert found.flops == 2 * 32 * 48 * (3 * 64 + 8)
    assert sum(found.fastest.values()) == 4 and set(found.fastest) <= {"ONNX Runtime", "OpenVINO"}
    assert measure_peak({}, threads=1) is None


def test_a_runtime_without_an_int8_kernel_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_peak, "_fastest_ms", lambda *_: None)
    assert measure_peak({SHAPE: 1}, threads=1) is None


def test_eval_says_it_of_int8_engines_that_were_timed(engine: Callable[..., Built]) -> None:
    directory = engine("bert", strategy="w8a8").directory
    report = evaluate_engine(directory, traffic=False, **FIXED)
    peak, latency = report["int8_peak"], report["latency_ms"]
    assert peak is not None and latency is not None
    assert peak["share"] > 0 and peak["tops"] == pytest.approx(peak["share"] * peak["peak_tops"])
    untimed = evaluate_engine(directory, latency=False, limit=8)
    assert untimed["int8_peak"] is None
    plain = engine("bert", strategy="fp32").directory
    assert evaluate_engine(plain, traffic=False, **FIXED)["int8_peak"] is None
