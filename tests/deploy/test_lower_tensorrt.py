"""The TensorRT graph computes the plan's own rounding in FP16, and keeps TensorRT's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Float, PerTensor, Plan, Treatment
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.lowering.fp16_scales import SMALLEST, half_scale
from qdeploy.deploy.lowering.groups import window
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.passes.to_fp16 import ToFp16
from qdeploy.deploy.rules import ERROR
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt.lower import lower
from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from qdeploy.errors import ModelError, PlanError, QDeployWarning, TargetError
from qdeploy.files.artifact import read_json
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Source, sqnr_db
from tests.deploy.fakequant import fake_quantized
from tests.deploy.tolerances import HALF
from tests.deploy.toys import Toy, fake_quantize, plan_of, saved, simulated
from tests.deploy.treated_gemm import SIGNS, TREATMENTS, K, N, X, affine, one_gemm
from tests.tiny import FAMILIES, LAYERS

Array = npt.NDArray[Any]


def lowered(treatment: Treatment, weight: Array = SIGNS) -> tuple[ir.Model, tuple[TraceName, ...]]:
    model = one_gemm(weight)
    structure = find_structure(model)
    plan = symmetric(plan_of(structure, {g.input: treatment for g in structure.gemms}))
    found = lower(model, TARGETS["tensorrt"].fit(plan, structure), structure)
    return found.model, found.trace_names["gemm"]


def symmetric(plan: Plan) -> Plan:
    return replace(plan, activations="symmetric")


def test_what_is_cut_starts_and_ends_at_multiples() -> None:
    model, _ = lowered(TREATMENTS["two groups, neighbours"])
    (cut,) = [node for node in model.graph if node.op_type == "Slice"]
    bounds = [value.const_value.numpy().item() for value in cut.inputs[1:3]]  # type: ignore[union-attr]
    assert bounds == [0, 32]
    assert "Gather" not in [node.op_type for node in model.graph]
    slim = [n for n in model.graph.initializers if "part2.weight_int8" in n]
    assert model.graph.initializers[slim[0]].const_value.shape == (32, N)  # type: ignore[union-attr]


def test_outlier_channels_meet_a_float_gemm_of_eight_rows_and_zeroed_codes() -> None:
    model, _ = lowered(TREATMENTS["outlier channels"])
    weights = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    (slim,) = [w for n, w in weights.items() if n.endswith("weight_float.half")]
    assert slim.shape == (8, N) and slim.dtype == np.float16
    (codes,) = [w for n, w in weights.items() if n.endswith("weight_int8")]
    assert not codes[[8, 9, 40]].any() and codes[[0, 1]].any()


@pytest.mark.parametrize(
    ("channels", "total", "columns"),
    [
        ((8, 9), 64, range(0, 32)),
        ((30, 31, 32), 64, range(0, 64)),
        ((62, 63), 64, range(32, 64)),
    ],
)
def test_a_window_holds_its_channels(channels: tuple[int, ...], total: int, columns: range) -> None:
    found, rows = window(channels, total, 1, 32)
    assert list(found) == list(columns)
    assert [r for r in rows if r >= 0] == list(channels)


def test_a_window_that_would_leave_the_tensor_is_a_gather() -> None:
    found, rows = window((40, 41), 50, 1, 32)
    assert len(found) == 32 and set(found) == {40, 41}
    assert list(rows[:2]) == [40, 41] and set(rows[2:]) == {-1}


def test_a_group_joins_no_other_as_repeated_rows() -> None:
    model, trace_names = lowered(TREATMENTS["two groups, scattered"])
    assert len(trace_names) == 2
    assert "Concat" not in [node.op_type for node in model.graph]


# Residual sums


def residual_block() -> ir.Model:
    """y = h + h · W, with h = −x."""
    toy = Toy(("batch", "sequence", K))
    hidden = toy.op("Neg", toy.x, name="neg", channels=K)
    square = np.tile(SIGNS, (1, 3))[:, :K]
    product = toy.op("MatMul", hidden, toy.constant("gemm.weight", square), channels=K)
    return toy.model(toy.op("Add", hidden, product, name="sum", channels=K))


@pytest.mark.parametrize("rounded", [True, False])
def test_a_skip_branch_is_rounded_where_it_is_asked_for(rounded: bool, tmp_path: Path) -> None:
    model = residual_block()
    structure = find_structure(model)
    treatment = PerTensor(affine(8))
    plan = plan_of(structure, {g.input: treatment for g in structure.gemms})
    plan = replace(symmetric(plan), options={"int8_residuals": rounded})
    found = lower(model, TARGETS["tensorrt"].fit(plan, structure), structure).model
    assert broken_rules(found) == []
    (pair,) = [n for n in found.graph if n.op_type == "QuantizeLinear"]
    (sum_,) = [n for n in found.graph if n.op_type == "Add"]
    assert sum_.inputs[0] is not None and sum_.inputs[0].producer() is not None
    assert (sum_.inputs[0].producer().op_type == "DequantizeLinear") == rounded  # type: ignore[union-attr]
    assert pair is not None
    y = simulated(found, tmp_path / "model.onnx", X)
    seen = fake_quantize(-X, treatment)
    expected = (seen if rounded else -X) + seen @ np.tile(SIGNS, (1, 3))[:, :K]
    np.testing.assert_allclose(y, expected, rtol=0, atol=HALF * np.abs(expected).max())


def test_rounded_skip_branches_are_of_targets_that_add_in_int8(
    bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match="ort-cpu does not"):
        build_engine(bert.directory, tmp_path / "engine", int8_residuals=True)


# Scales


@pytest.mark.parametrize("scale", [0.1, 1e-3, SMALLEST, 1e-6, 3.3e-5, 60000.0])
def test_half_scales_are_fp16_and_never_smaller(scale: float) -> None:
    found = half_scale(np.array(scale))
    assert found == found.astype(np.float16) and found >= scale and found >= SMALLEST
    assert found <= max(scale * (1 + 2**-10), SMALLEST)


def fitted(treatment: Treatment) -> tuple[Plan, Structure]:
    structure = find_structure(one_gemm(SIGNS))
    plan = symmetric(plan_of(structure, {g.input: treatment for g in structure.gemms}))
    return TARGETS["tensorrt"].fit(plan, structure), structure


def test_a_scale_that_fp16_does_not_hold_leaves_the_gemm_in_float() -> None:
    plan, _ = fitted(PerTensor(Affine(1e-6, 128)))
    assert plan.int8_gemms == ()
    assert plan.gemms["gemm"].reason == "its input's scale is too small for FP16"
    (site,) = plan.sites.values()
    assert isinstance(site.treatment, Float)


@pytest.mark.parametrize("scale", [4e-5, 1e-12])  # a little too small; of a constant zero
def test_a_scale_a_little_below_is_widened(scale: float) -> None:
    plan, _ = fitted(PerTensor(Affine(scale, 128)))
    (site,) = plan.sites.values()
    assert isinstance(site.treatment, PerTensor)
    assert site.treatment.affine.scale == SMALLEST


# Whole encoders

PLANS: dict[str, dict[str, Any]] = {
    "w8a8": {"strategy": "w8a8"},
    "groups": {"strategy": "peg", "groups": 3},
    "outliers": {"strategy": "peg", "groups": 1, "outlier_channels": 2},
    "factors": {"strategy": "smoothquant", "alpha": 0.5},
}


def dry_run(where: Source, output: Path, **options: Any) -> Path:
    baseline = options.get("strategy") in ("fp16", "fp32")
    options = {"target": "tensorrt", "statistics": None if baseline else where.statistics} | options
    build_engine(where.directory, output, dry_run=True, measure=False, **options)
    return output


def normed(path: Path, where: Source, output: Path) -> dict[str, Array]:
    """Every LayerNorm output on a padded batch: without padding, channels of a token sorted.

    A permutation that was folded into the weights orders them otherwise.
    """
    model, feeds = ir.load(path), where.feeds()
    norms = [n.outputs[0] for n in model.graph if n.op_type == "LayerNormalization"]
    model.graph.outputs[:] = norms
    found = SimulatedEngine(saved(model, output), threads=1).run(feeds)
    mask = feeds["attention_mask"].astype(bool)
    return {
        name: np.sort(value[mask] if value.shape[:2] == mask.shape else value, axis=-1)
        for name, value in found.items()
    }


def worst_db(a: dict[str, Array], b: dict[str, Array]) -> float:
    """The least ratio of the tensors that both graphs have."""
    both = a.keys() & b.keys()
    assert len(both) > LAYERS
    return min(sqnr_db(a[name], b[name].astype(np.float32)) for name in both)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_fp16_keeps_its_hidden_states(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    where = source(family)
    directory = dry_run(where, tmp_path / "engine", strategy="fp16")
    exact = normed(where.directory / "model.onnx", where, tmp_path / "a.onnx")
    found = normed(directory / "model.onnx", where, tmp_path / "b.onnx")
    assert worst_db(exact, found) > 45


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leads_into_an_integer_or_an_angle_stays_fp32(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    """A position that FP16 rounds would be another one, or fall into another bucket."""
    graph = ir.load(dry_run(source(family), tmp_path / "engine", strategy="fp16") / "model.onnx")
    left = [n for n in graph.graph if n.op_type in ("Sin", "Cos") or to_integer(n)]
    assert bool(left) == (family in ("mpnet", "deberta-v2", "modernbert"))
    seen = set(left)
    while left:
        for value in left.pop().inputs:
            if value is None:
                continue
            assert value.dtype != ir.DataType.FLOAT16, value
            before = value.producer()
            if before is not None and before not in seen and value.dtype == ir.DataType.FLOAT:
                seen.add(before)
                left.append(before)


def to_integer(node: ir.Node) -> bool:
    """A cast of floats to integers."""
    (before,), (after,) = (node.inputs[:1], node.outputs[:1])
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    return (
        node.op_type == "Cast"
        and before is not None
        and before.dtype in floats
        and after.dtype in (ir.DataType.INT64, ir.DataType.INT32)
    )


@pytest.mark.parametrize("plan_name", PLANS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_rules_and_computes_its_plan(
    family: str,
    plan_name: str,
    source: Callable[[str], Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left in FP32, it is the plan with the rounding written out, but for ties that FP32 breaks."""
    where = source(family)
    directory = dry_run(where, tmp_path / "half", **PLANS[plan_name])
    model = ir.load(directory / "model.onnx")
    assert [v for v in broken_rules(model) if v.severity == ERROR] == []
    plan = Plan.from_json(read_json(directory / "plan.json"))
    assert len(plan.int8_gemms) >= 4 * LAYERS

    monkeypatch.setattr(ToFp16, "apply", lambda self, model, plan, structure: None)
    plain = dry_run(where, tmp_path / "plain", **PLANS[plan_name])
    original, structure = where.graph()
    fake = saved(fake_quantized(original, plan, structure), tmp_path / "fake.onnx")
    found = normed(plain / "model.onnx", where, tmp_path / "a.onnx")
    expected = normed(fake, where, tmp_path / "b.onnx")
    assert worst_db(expected, found) > 60


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_that_is_shipped_is_near_its_plan(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    """FP16 and int8 together, beside the plan's own rounding in FP32.

    Half a unit in FP16's last place may flip a code, so that only gross faults show here: a scale
    or a type that is wrong anywhere costs all of these decibels.
    """
    where = source(family)
    directory = dry_run(where, tmp_path / "half")
    plan = Plan.from_json(read_json(directory / "plan.json"))
    original, structure = where.graph()
    fake = saved(fake_quantized(original, plan, structure), tmp_path / "fake.onnx")
    found = normed(directory / "model.onnx", where, tmp_path / "a.onnx")
    assert worst_db(normed(fake, where, tmp_path / "b.onnx"), found) > 18


def test_a_dry_run_needs_no_tensorrt_and_a_build_names_the_way_out(
    bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=r"--dry-run` writes the ONNX file here"):
        build_engine(bert.directory, tmp_path / "engine", target="tensorrt")
    assert not (tmp_path / "engine").exists()


def test_only_a_dry_run_can_be_simulated(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only the graph of a `build --dry-run`"):
        SimulatedEngine(tmp_path / "model.onnx")


def test_a_simulation_has_no_kernels(bert: Source) -> None:
    engine = SimulatedEngine(bert.directory / "model.onnx")
    with pytest.raises(PlanError, match="no kernels"):
        engine.trace_gemms({}, {})
    with pytest.raises(PlanError, match="no kernels"):
        engine.profile({})


def test_fp16_is_of_gpu_targets(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="fp16 is of GPU targets"):
        build_engine(bert.directory, tmp_path / "engine", strategy="fp16")


def test_options_of_a_compiler_are_refused_elsewhere(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="--max-shape, --refit: ort-cpu has no use for that"):
        build_engine(bert.directory, tmp_path / "engine", max_shape="8x64", refit=True)
    for target, flag in (("ort-cuda", "--no-cuda-graph"), ("ort-tensorrt", "--no-cuda-graph")):
        with pytest.raises(TargetError, match=f"{flag}: {target} has no use"):
            dry_run(bert, tmp_path / "engine", target=target, cuda_graph=False)
    with pytest.raises(TargetError, match="--workspace-mb: ort-cuda has no use"):
        dry_run(bert, tmp_path / "engine", target="ort-cuda", workspace_mb=100)


def test_a_timing_cache_has_to_have_a_place(bert: Source, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "nowhere" / "cache"):
        with pytest.raises(PlanError, match="--timing-cache .* is a folder, or in one that"):
            dry_run(bert, tmp_path / "engine", timing_cache=wrong)
    assert not list(tmp_path.iterdir())


def test_rounded_sums_that_are_none_are_said(bert: Source, tmp_path: Path) -> None:
    with pytest.warns(QDeployWarning, match="--int8-residuals changed nothing"):
        dry_run(bert, tmp_path / "groups", groups=4, int8_residuals=True)
    dry_run(bert, tmp_path / "plain", strategy="w8a8", int8_residuals=True)


def test_an_fp32_engine_is_not_called_fp16(bert: Source, tmp_path: Path) -> None:
    directory = dry_run(bert, tmp_path / "engine", strategy="fp32")
    assert read_json(directory / "qdeploy.json")["rest_precision"] == "f32"
    types = {v.dtype for n in ir.load(directory / "model.onnx").graph for v in n.outputs}
    assert ir.DataType.FLOAT16 not in types
