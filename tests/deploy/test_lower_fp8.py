"""The FP8 graph of TensorRT computes the plan's own rounding, and only FP8 devices take it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.e4m3 import E4M3_TYPE
from qdeploy.calibrate.plan import FP8, PerTensor, Plan
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.schemes import E4M3
from qdeploy.deploy import cuda
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.lowering.fp16_scales import half_scale
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt.lower import lower
from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from qdeploy.errors import PlanError, TargetError
from qdeploy.files.artifact import read_json
from qdeploy.graph.sites import find_structure
from tests.deploy.conftest import ROWS, Source, sqnr_db
from tests.deploy.dry_runs import dry_run
from tests.deploy.test_lower_tensorrt_families import normed, worst_db
from tests.deploy.toys import plan_of, simulated
from tests.deploy.treated_gemm import BIAS, ROUGH, K, X, one_gemm
from tests.exports import Exports
from tests.once import Once

Array = npt.NDArray[Any]
FAR = ("ort-cpu", "openvino", "ort-cuda")


def fp8_plan(model: ir.Model, scale: float, **more: Any) -> Plan:
    """The one GEMM in FP8."""
    structure = find_structure(model)
    inputs = {gemm.input: PerTensor(Affine(scale, 0)) for gemm in structure.gemms}
    plan = replace(plan_of(structure, inputs, **more), activations=E4M3)
    gemms = {name: replace(gemm, precision=FP8) for name, gemm in plan.gemms.items()}
    return TARGETS["tensorrt"].fit(replace(plan, gemms=gemms), structure)


def rounded(x: Array, scale: Array) -> Array:
    """x through E4M3, by frexp and rint alone."""
    steps = np.clip(x / scale, -448, 448)
    exponent = np.maximum(np.frexp(steps)[1] - 1, -6)
    ulp = np.exp2(exponent - 3.0)
    found: Array = np.clip(np.rint(steps / ulp) * ulp, -448, 448) * scale
    return found.astype(np.float32)


def weight_scale(weight: Array, *, per_channel: bool) -> Array:
    peak = np.abs(weight).max(axis=0)
    return half_scale((peak if per_channel else peak.max()) / 448)


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_gemm_computes_its_rounding(per_channel: bool, tmp_path: Path) -> None:
    scale = 2.0**-6
    model = one_gemm(ROUGH)
    plan = fp8_plan(model, scale, per_channel_weights=per_channel)
    found = lower(model, plan, find_structure(model)).model
    assert broken_rules(found) == []
    weight = rounded(ROUGH, weight_scale(ROUGH, per_channel=per_channel))
    expected = rounded(-X, np.array(scale)) @ weight + BIAS
    output = simulated(found, tmp_path / "m.onnx", X)
    assert sqnr_db(expected, output) > 55  # FP16 products and sums


def test_types_and_names() -> None:
    model = one_gemm(ROUGH)
    lowered = lower(model, fp8_plan(model, 0.01), find_structure(model))
    stored = lowered.model.graph.initializers
    (trace,) = lowered.trace_names["gemm"]
    assert trace.weight == "gemm.weight_fp8"
    assert stored[trace.weight].dtype == ir.DataType.FLOAT8E4M3FN
    pairs = [n for n in lowered.model.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 3
    for node in pairs:
        assert node.inputs[1] is not None and node.inputs[1].dtype == ir.DataType.FLOAT16
        if len(node.inputs) > 2:
            assert node.inputs[2] is not None and node.inputs[2].dtype == ir.DataType.FLOAT8E4M3FN
    kinds = {value.dtype for value in stored.values()}
    assert not kinds & {ir.DataType.INT8, ir.DataType.UINT8}


def test_a_bias_is_corrected_for_the_rounded_weights() -> None:
    model = one_gemm(ROUGH)
    plan = fp8_plan(model, 0.01)
    mean = np.random.default_rng(0).normal(size=K)
    sites = {t: replace(site, mean=tuple(mean)) for t, site in plan.sites.items()}
    found = lower(model, replace(plan, sites=sites), find_structure(model)).model
    (bias,) = [v for n, v in found.graph.initializers.items() if "bias" in n]
    weight = rounded(ROUGH, weight_scale(ROUGH, per_channel=True))
    expected = BIAS - mean @ (weight.astype(np.float64) - ROUGH)
    np.testing.assert_allclose(bias.const_value.numpy(), expected, rtol=2e-3, atol=2e-3)  # type: ignore[union-attr]


def test_a_scale_that_fp16_does_not_hold_is_widened_or_its_gemm_stays_in_float() -> None:
    plan = fp8_plan(one_gemm(ROUGH), 4e-5)
    (site,) = plan.sites.values()
    assert site.treatment == PerTensor(Affine(float(np.finfo(np.float16).tiny), 0))
    lost = fp8_plan(one_gemm(ROUGH), 1e-6)
    assert not lost.quantized_gemms
    assert "too small for FP16" in lost.gemms["gemm"].reason


def test_a_stored_fp8_weight_needs_dequantize_linear() -> None:
    model = one_gemm(ROUGH)
    found = lower(model, fp8_plan(model, 0.01), find_structure(model)).model
    (product,) = [node for node in found.graph if node.op_type == "MatMul"]
    product.replace_input_with(1, found.graph.initializers["gemm.weight_fp8"])
    texts = [broken.text for broken in broken_rules(found)]
    assert any("float8e4m3fn constant gemm.weight_fp8 without" in text for text in texts)


@pytest.mark.parametrize("target", FAR)
def test_other_targets_refuse_it_before_any_work(bert: Source, target: str, tmp_path: Path) -> None:
    match = f"{target} does not multiply FP8.*Take --target .*tensorrt or tensorrt-rtx, or --strat"
    with pytest.raises(TargetError, match=match):
        build_engine(bert.directory, tmp_path / "e", strategy="fp8", target=target, dry_run=True)


@pytest.mark.parametrize("options", [{"scope": "all"}, {"int8_residuals": True}])
def test_options_of_int8_are_refused_before_any_work(
    bert: Source, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"Leave (it|--scope) *out"):
        build_engine(
            bert.directory,
            tmp_path / "e",
            strategy="fp8",
            target="tensorrt",
            dry_run=True,
            **options,
        )


@pytest.mark.parametrize(
    ("capability", "taken"), [("7.5", False), ("8.6", False), ("8.9", True), ("12.0", True)]
)
def test_a_gpu_without_fp8_is_refused(
    capability: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cuda, "device", lambda: {"name": "Test GPU", "compute_capability": capability}
    )
    for target in (TARGETS["tensorrt"], TARGETS["ort-tensorrt"]):
        if taken:
            target.require_fp8()
            continue
        with pytest.raises(TargetError, match=f"capability {capability}, and FP8 needs 8.9.*peg"):
            target.require_fp8()


def test_a_build_asks_the_gpu_and_a_dry_run_does_not(
    bert: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = TARGETS["tensorrt"]
    monkeypatch.setattr(type(target), "require", lambda self: None)
    monkeypatch.setattr(cuda, "device", lambda: {"name": "Test GPU", "compute_capability": "8.6"})
    with pytest.raises(TargetError, match="FP8 needs 8.9"):
        build_engine(bert.directory, tmp_path / "e", strategy="fp8", target="tensorrt")
    dry_run(bert, tmp_path / "e", strategy="fp8")


@pytest.mark.parametrize("hidden", [32, 96])
def test_a_whole_encoder_of_two_sizes(
    hidden: int, exported: Exports, once: Once, tmp_path: Path
) -> None:
    """Without planted outliers, whose large offsets three bits of mantissa do not resolve."""
    directory = exported("bert", hidden=hidden, outliers=False).model_dir

    def calibrated(home: Path) -> None:
        shutil.copytree(directory, home / "model")
        calibrate_model(home / "model", data="qnli-mini", calibration_rows=ROWS)

    home, _ = once("fp8-size", (hidden,), calibrated)
    (statistics,) = (home / "model").rglob("*.npz")
    where = Source(home / "model", statistics)
    engine = dry_run(where, tmp_path / "fp8", strategy="fp8")
    exact = normed(where.directory / "model.onnx", where, tmp_path / "a.onnx")
    found = normed(engine / "model.onnx", where, tmp_path / "b.onnx")
    assert worst_db(exact, found) > 24
    certificate = read_json(tmp_path / "fp8" / "certificate.json")
    assert {g["precision"] for g in certificate["planned_gemms"].values()} == {"fp8", "float"}


def test_codes_are_those_of_onnx_runtime(tmp_path: Path) -> None:
    """QuantizeLinear of FP16 values, bit by bit, with everything beyond the range."""
    model = one_gemm(ROUGH)
    found = lower(model, fp8_plan(model, 2.0**-9), find_structure(model)).model
    (quantize,) = [node for node in found.graph if node.op_type == "QuantizeLinear"]
    (back,) = [use.node for use in quantize.outputs[0].uses()]
    found.graph.outputs[0].name, back.outputs[0].name = "product", "y"
    found.graph.outputs[:] = [back.outputs[0]]
    x = np.linspace(-2, 2, 4 * K, dtype=np.float16).astype(np.float32).reshape(1, 4, K)
    output = simulated(found, tmp_path / "m.onnx", x)
    np.testing.assert_array_equal(output, rounded(-x, np.array(2.0**-9)))
    assert np.abs(output).max() == 448 * 2.0**-9
    assert E4M3_TYPE.name == "float8_e4m3fn"
