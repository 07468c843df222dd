"""`inspect --target`: files that other tools quantized, held against the rules of GPU targets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import GateError, ModelError, TargetError
from qdeploy.schemas.inspection import Contract
from tests.calibrate.encoder import LAYERS, VOCABULARY, model_directory
from tests.deploy.conftest import Source

GEMMS = 6 * LAYERS  # of the encoder, and the classifier
SIGNED: dict[str, Any] = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
}
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}


class Reader(CalibrationDataReader):
    """Three batches of random tokens."""

    def __init__(self) -> None:
        self._left = 3

    def get_next(self) -> dict[str, Any] | None:
        self._left -= 1
        if self._left < 0:
            return None
        rng = np.random.default_rng(self._left)
        ids = rng.integers(1, VOCABULARY, (2, 8))
        return {"input_ids": ids, "attention_mask": np.ones((2, 8), np.int64)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("foreign") / "model") / "model.onnx"


def quantized(model: Path, output: Path, **options: Any) -> Path:
    """What ONNX Runtime's own static quantizer makes of the encoder."""
    quantize_static(model, output, Reader(), **options)
    return output


def checked_by(path: Path, target: str) -> Contract:
    """What `inspect` reports, whether the rules are kept or broken."""
    try:
        found = qdeploy.inspect(path, target=target)
        assert found["kind"] == "onnx"
        checked: Contract = found["contract"]
    except GateError as error:
        checked = error.report["contract"]
        assert checked["errors"] > 0
    return checked


def found(path: Path, target: str) -> Counter[tuple[str, str]]:
    checked = checked_by(path, target)
    assert checked["target"] == target
    counts = Counter((one["rule"], one["severity"]) for one in checked["violations"])
    errors = sum(n for (_, severity), n in counts.items() if severity == "error")
    assert checked["errors"] == errors
    assert all(one["node"] and one["text"] and one["remedy"] for one in checked["violations"])
    return counts


def test_the_quantizers_defaults_break_tensorrts_contract(model: Path, tmp_path: Path) -> None:
    rules = found(quantized(model, tmp_path / "q.onnx"), "tensorrt")
    assert rules["zero-point", "error"] + rules["signed", "error"] > GEMMS
    norms = 1 + 2 * LAYERS
    assert rules["float-bias", "error"] == 1 + norms  # that of the one Gemm; others are Adds


def test_symmetric_pairs_keep_it_but_for_the_bias(model: Path, tmp_path: Path) -> None:
    options = SIGNED | {"extra_options": SYMMETRIC}
    rules = found(quantized(model, tmp_path / "q.onnx", **options), "tensorrt")
    assert {rule for rule, severity in rules if severity == "error"} == {"float-bias"}


def test_the_recipe_for_tensorrt_keeps_it(model: Path, tmp_path: Path) -> None:
    extra = SYMMETRIC | {"QuantizeBias": False, "AddQDQPairToWeight": True}
    options = SIGNED | {"op_types_to_quantize": ["MatMul", "Gemm"], "extra_options": extra}
    rules = found(quantized(model, tmp_path / "q.onnx", **options), "ort-tensorrt")
    assert set(rules) == {("attention", "advice")}
    assert rules["attention", "advice"] == 2 * LAYERS


def test_integer_operators_are_not_tensorrts(model: Path, tmp_path: Path) -> None:
    path = quantized(model, tmp_path / "q.onnx", quant_format=QuantFormat.QOperator)
    assert found(path, "tensorrt")["operator", "error"] > GEMMS


def test_a_qdq_graph_is_refused_on_the_cuda_provider(model: Path, tmp_path: Path) -> None:
    path = quantized(model, tmp_path / "q.onnx", **SIGNED, extra_options=SYMMETRIC)
    rules = found(path, "ort-cuda")
    assert rules["pairs", "error"] == GEMMS + 1
    assert rules["pairs", "advice"] == 2 * LAYERS
    text = checked_by(path, "ort-cuda")["violations"][0]["text"]
    assert "runs in float" in text


def test_operators_that_leave_the_gpu_are_named(model: Path, tmp_path: Path) -> None:
    path = quantized(model, tmp_path / "q.onnx", quant_format=QuantFormat.QOperator)
    assert found(path, "ort-cuda")["operator", "error"] > GEMMS


def test_an_engine_of_another_target_is_no_engine_of_this(bert: Source, tmp_path: Path) -> None:
    for target, strategy in (("ort-cuda", "w8a8"), ("tensorrt", "w8a8"), ("ort-cpu", "dynamic")):
        given: dict[str, Any] = {"statistics": bert.statistics} if strategy == "w8a8" else {}
        qdeploy.build(
            bert.directory,
            tmp_path / target,
            strategy=strategy,
            target=target,
            dry_run=True,
            **given,
        )
    errors = {
        (made, held): checked_by(tmp_path / made, held)["errors"]
        for made in ("ort-cuda", "tensorrt", "ort-cpu")
        for held in ("ort-cuda", "tensorrt")
    }
    clean = {pair for pair, count in errors.items() if count == 0}
    assert clean == {("ort-cuda", "ort-cuda"), ("tensorrt", "tensorrt")}


def test_the_command_and_its_errors(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model), "--target", "ort-cuda", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["contract"]["errors"] == 0
    with pytest.raises(TargetError, match="openvino"):
        qdeploy.inspect(model, target="openvino")
    with pytest.raises(ModelError, match="does not exist"):
        qdeploy.inspect(tmp_path / "none.onnx", target="tensorrt")
