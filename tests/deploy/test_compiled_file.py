"""`inspect FILE --target tensorrt` beside the rules: files of anybody, compiled by TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.deploy import foreign
from qdeploy.deploy.targets.tensorrt.target import TensorRt
from qdeploy.errors import GateError, ModelError
from qdeploy.schemas.inspection import CompiledFile, InspectedFile
from tests.calibrate.encoder import model_directory
from tests.deploy.conftest import Source
from tests.deploy.dry_runs import dry_run
from tests.deploy.rule_graphs import SCALE, Graph, K, N, cut_by_split, joined_tensors, toy
from tests.deploy.test_foreign_rules import GEMMS, SIGNED, SYMMETRIC, quantized
from tests.deploy.toys import saved
from tests.documents import assert_is

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
RECIPE = SIGNED | {
    "op_types_to_quantize": ["MatMul", "Gemm"],
    "extra_options": SYMMETRIC | {"QuantizeBias": False, "AddQDQPairToWeight": True},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("compiled") / "model") / "model.onnx"


def found(path: Path, target: str = "tensorrt") -> CompiledFile:
    """What `inspect` says of the compiler, whether the rules are kept or broken."""
    try:
        report: Any = qdeploy.inspect(path, target=target)
    except GateError as error:
        report = error.report
    assert_is(report, InspectedFile)
    compiled: CompiledFile = report["compiled"]
    assert "ran in" not in compiled["summary"]
    return compiled


@pytest.mark.parametrize("target", ["tensorrt", "ort-tensorrt", "tensorrt-rtx"])
def test_a_file_of_another_quantizer(model: Path, tmp_path: Path, target: str) -> None:
    compiled = found(quantized(model, tmp_path / "q.onnx", **RECIPE), target)
    products = compiled["products"]
    assert products is not None and compiled["refused"] == []
    assert products["executed"] == products["planned"] == GEMMS + 1
    assert "compiled as INT8" in compiled["summary"] and "nothing ran" in compiled["summary"]
    assert compiled["shapes"]["input_ids"] == [[1, 2], [8, 128], [32, 512]]
    assert compiled["in_float"] == []


@pytest.mark.parametrize("strategy", ["w8a8", "peg", "fp8"])
def test_dry_runs_of_our_own(
    strategy: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    products = found(dry_run(source("bert"), tmp_path / "engine", strategy=strategy))["products"]
    assert products is not None
    assert products["executed"] == products["planned"] > 0, products["fallbacks"]
    name, capability = ("FP8", "8.9") if strategy == "fp8" else ("INT8", "8.6")
    assert f"compiled as {name}" in products["summary"]
    assert products["compute_capabilities"] == [capability]


def test_a_file_without_quantization(model: Path) -> None:
    compiled = found(model)
    assert compiled["products"] is not None and compiled["products"]["planned"] == 0
    assert "no product in 8 bits" in compiled["summary"]
    assert "nothing ran" in compiled["summary"]


def test_a_file_that_the_parser_refuses(model: Path, tmp_path: Path) -> None:
    options = SIGNED | {"extra_options": SYMMETRIC}  # with int32 biases
    compiled = found(quantized(model, tmp_path / "q.onnx", **options))
    assert compiled["products"] is None and compiled["refused"]
    assert compiled["summary"].startswith("not compiled by TensorRT-RTX")
    assert "input has type Int32" in compiled["refused"][0]
    assert "CUDA" not in compiled["summary"]  # a driver that is missing is no reason


def test_every_operator_that_is_not_imported_is_named(tmp_path: Path) -> None:
    def integers(g: Graph) -> ir.Value:
        for _ in range(3):
            codes = g.op("DynamicQuantizeLinear", g.x, outputs=3, dtype=ir.DataType.UINT8)
            weight = g.ones(K, K, kind=np.int8, name=f"w{g.numbers(0).name}")
            sums = g.op("MatMulInteger", codes, weight, dtype=ir.DataType.INT32)
            last = g.op("Cast", sums, to=1, channels=K)
        return last

    compiled = found(saved(toy(integers), tmp_path / "m.onnx"))
    assert len(compiled["refused"]) == 6
    assert "MatMulInteger node1: not imported" in compiled["refused"]
    assert compiled["summary"].endswith("(and 5 more reasons)")


@pytest.mark.parametrize(
    ("graph", "rule"),
    [(cut_by_split, "joined-heads"), (joined_tensors(0.3), "joined-scales")],
)
def test_a_product_in_float_is_told_with_its_rule(
    graph: Callable[[Graph], ir.Value], rule: str, tmp_path: Path
) -> None:
    products = found(saved(toy(graph), tmp_path / "m.onnx"))["products"]
    assert products is not None and (products["planned"], products["executed"]) == (1, 0)
    assert rule in products["fallbacks"][0]["reason"]


def test_shapes_that_the_builder_refuses(tmp_path: Path) -> None:
    model = toy(lambda g: g.op("Reshape", g.quantized(g.weight()), g.numbers(7, N)), ("b", K))
    compiled = found(saved(model, tmp_path / "m.onnx"))
    assert compiled["shapes"] == {"x": [[1, K], [8, K], [32, K]]}
    assert compiled["products"] is None and len(compiled["refused"]) == 1


def test_inputs_of_other_ranks_and_names_that_are_not_unique(tmp_path: Path) -> None:
    def twice(g: Graph) -> ir.Value:
        first = g.product(g.pair(), g.weight(), name="same")
        pair = g.pair(first, "y")
        return g.product(pair, g.weight("w2", (N, N), scale=SCALE), name="same")

    for shape in (("b", K), ("b", "c", "d", K), (4, 16, K)):
        products = found(saved(toy(twice, shape), tmp_path / "m.onnx"))["products"]
        assert products is not None
        assert products["planned"] == products["executed"] == 2, (shape, products["fallbacks"])


def test_whatever_fails_in_the_compiler_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = quantized(model, tmp_path / "q.onnx", **RECIPE)
    for code, text in {
        "os.abort()": "ended with SIGABRT",
        "raise MemoryError('all of it')": "ended with MemoryError: all of it",
    }.items():
        start = f"import os, sys\nif '{foreign.COMPILE}' in sys.argv: {code}\n{foreign._START}"
        with monkeypatch.context() as patched:
            patched.setattr(foreign, "_START", start)
            report: Any = qdeploy.inspect(path, target="tensorrt")
        assert report["contract"]["errors"] == 0
        assert report["compiled"]["summary"] == f"not compiled: the process that did {text}"
        assert report["compiled"]["products"] is None


def test_a_compiler_has_limits_of_its_own() -> None:
    assert foreign._seconds(10**6, foreign.COMPILING) == foreign.COMPILING * foreign._seconds(10**6)


def test_where_no_compiler_is_installed_the_rules_stand_alone(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRt, "compiles_files", False)
    assert "compiled" not in qdeploy.inspect(model, target="tensorrt")
    assert "compiled" not in qdeploy.inspect(model, target="ort-cuda")


def test_a_damaged_file_is_an_error_as_before(model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        qdeploy.inspect(tmp_path / "m.onnx", target="tensorrt")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(toy(cut_by_split), tmp_path / "m.onnx")
    assert main(["inspect", str(path), "--target", "tensorrt"]) == 0  # advice alone
    text = " ".join(capsys.readouterr().out.split())
    assert "compiled 100 % of all constant-weight FLOPs planned, 0/1 planned GEMMs" in text
    assert "FELL BACK to float: 1 product" in text and "(joined-heads)" in text
    assert main(["inspect", str(path), "--target", "tensorrt", "-v"]) == 0
    assert "compiled for x of 1×2×32, 8×128×32, 32×512×32" in capsys.readouterr().out
    refused = toy(lambda g: g.op("Reshape", g.x, g.numbers(7, K)), ("b", K))
    path = saved(refused, tmp_path / "refused.onnx")
    assert main(["inspect", str(path), "--target", "tensorrt", "-v"]) == 0  # the rules decide
    assert "not compiled" in capsys.readouterr().out
