"""FP8 products are proved, counted and told under their own name, and never as INT8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.int8_gate import shortfall
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.tally import name_of, tally, worded
from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.files.artifact import read_json
from tests.deploy.conftest import Source
from tests.deploy.dry_runs import dry_run
from tests.deploy.test_tensorrt_inspector import layer

PROVED = KernelTime("g", "gemm e4m3e4m3", 1.0, 1, fp8=True)
INT8 = KernelTime("g", "gemm i8i8", 1.0, 1, int8=True)
HALF = KernelTime("g", "gemm f16f16", 1.0, 1, fallback_reason="TensorRT reads Half")


def gemm(precision: str, flops: int = 10) -> Any:
    return {"precision": precision, "reason": "", "flops": flops, "float_flops": 0, "marks": []}


@pytest.mark.parametrize(
    "found",
    [
        layer("gemm", "sm90_xmma_gemm_e4m3e4m3_f32", "FP8", "FP8"),
        layer("gemm", "sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n", "FP8"),
        layer("gemm", "cutlass3x_sm90_tensorop_s64x128x32gemm_e4m3_e4m3_f32_f16"),
        layer("gemm", "0x1a2b", "FP8", "Fp8"),
        layer("CaskGemmMatrixMultiply", "weird", "Row major linear FP8 format", weights="FP8"),
    ],
    ids=lambda found: found.tactic,
)
def test_what_is_called_fp8(found: inspector.Layer) -> None:
    assert found.fp8 and not found.int8


@pytest.mark.parametrize(
    "found",
    [
        layer("gemm", "sm80_xmma_gemm_f16f16_f16f32", "FP8", "FP8"),  # its own name says FP16
        layer("gemm", "sm90_xmma_gemm_e4m3e5m2_f32", "FP8", "FP8"),
        layer("gemm", "sm90_xmma_gemm_e4m3e4m3_f32", "Half", "Half"),  # no FP8 comes in
        layer("gemm", "0x1a2b", "FP8"),
        layer("gemm", "0x1a2b", "FP8", "Half"),
        layer("gemm", "0x1a2b", "FP8 E5M2", "FP8 E5M2"),
        layer("kgen", "0x1a2b", "FP8", "FP8"),
        layer("gemm", "sm75_imma_128x128", "Int8", "Int8"),
    ],
    ids=lambda found: f"{found.tactic} {found.inputs}",
)
def test_what_does_not_prove_fp8(found: inspector.Layer) -> None:
    assert not found.fp8


def test_why_a_product_that_reads_fp8_is_not_proved() -> None:
    assert "0x1a2b does not prove FP8" in layer("gemm", "0x1a2b", "FP8", "Half").fallback_reason


def test_the_certificate_counts_fp8_of_a_plan_in_fp8_alone() -> None:
    entry = {
        "Name": "g",
        "LayerType": "gemm",
        "TacticName": "sm89_xmma_gemm_e4m3e4m3_f32f32",
        "Inputs": [{"Name": "x", "Format/Datatype": "FP8"}] * 2,
        "Metadata": "[ONNX Layer: layer.0.query]",
    }
    layers = inspector.layers(json.dumps({"Layers": [entry]}))
    ran = inspector.kernels(layers, {})
    found = inspector.of_gemms(layers, ran, {"q": [TraceName("w", "layer.0.query")]})
    assert tally({"q": gemm("fp8")}, found, 0.0)["executed"] == 1
    report = tally({"q": gemm("int8")}, found, 0.0)
    assert report["executed"] == 0
    assert report["fallbacks"][0]["reason"].startswith("TensorRT reads FP8, FP8")


@pytest.mark.parametrize(
    ("precision", "kernels", "reason"),
    [
        ("fp8", [PROVED], ""),
        ("fp8", [PROVED, HALF], "TensorRT reads Half"),
        ("fp8", [INT8], "not all of its parts run in FP8"),
        ("fp8", [], "no kernel reads its fp8 weight"),
        ("int8", [INT8], ""),
        ("int8", [PROVED], "not all of its parts run in INT8"),
    ],
)
def test_a_gemm_runs_as_it_was_planned(
    precision: str, kernels: list[KernelTime], reason: str
) -> None:
    found = tally({"g": gemm(precision)}, {"g": kernels}, 0.0)
    assert found["gemms"]["g"]["reason"] == reason
    assert found["executed"] == (not reason)


def test_texts_name_fp8() -> None:
    planned = {"a": gemm("fp8"), "b": gemm("fp8"), "c": gemm("float")}
    check = worded(tally(planned, {"a": [PROVED], "b": [HALF]}, 0.0), measured=True)
    assert name_of(check) == "FP8"
    assert "1/2 planned GEMMs" in check["summary"] and "FP8 share of all" in check["summary"]
    assert "INT8" not in check["summary"] + check["short"]
    failure = shortfall(check, 0.9)
    assert failure is not None and failure.startswith("FP8 kernels did 33.33 %")
    assert shortfall(check, 0.3) is None


def test_a_dry_run_in_fp8_names_no_int8(bert: Source, tmp_path: Path) -> None:
    directory = dry_run(bert, tmp_path / "engine", strategy="fp8")
    text = (directory / "README.md").read_text("utf-8")
    assert "quantized to FP8 (E4M3)" in text and "INT8" not in text
    certificate = read_json(directory / "certificate.json")
    reasons = [entry["reason"] for entry in certificate["other_products"].values()]
    assert not any("INT8" in reason for reason in reasons)
    assert read_json(directory / "plan.json")["activations"] == "e4m3"
