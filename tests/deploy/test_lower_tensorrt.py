"""The TensorRT graph computes the plan's own rounding in FP16, and keeps TensorRT's rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Float, PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.fp16_scales import SMALLEST, half_scale
from qdeploy.deploy.lowering.groups import window
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt.lower import lower
from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.tolerances import HALF
from tests.deploy.toys import Toy, fake_quantize, plan_of, simulated
from tests.deploy.treated_gemm import (
    SIGNS,
    TREATMENTS,
    K,
    N,
    X,
    affine,
    grouped,
    one_gemm,
    without,
)

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
    # 16 times the range: too many columns, so a product of its own
    model, _ = lowered(grouped(without(8, 9), (8, 9), times=(1, 16)))
    (cut,) = [node for node in model.graph if node.op_type == "Slice"]
    bounds = [value.const_value.numpy().item() for value in cut.inputs[1:3]]  # type: ignore[union-attr]
    assert bounds == [0, 32]
    assert "Gather" not in [node.op_type for node in model.graph]
    slim = [n for n in model.graph.initializers if "part2.weight_int8" in n]
    assert model.graph.initializers[slim[0]].const_value.shape == (32, N)  # type: ignore[union-attr]


def test_outlier_channels_of_unknown_range_meet_a_float_gemm_and_zeroed_codes() -> None:
    model, _ = lowered(TREATMENTS["outlier channels"])
    weights = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    (slim,) = [w for n, w in weights.items() if n.endswith("weight_float.half")]
    assert slim.shape == (16, N) and slim.dtype == np.float16
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


def test_groups_and_outlier_channels_join_one_product_in_further_columns() -> None:
    treatment = grouped(
        without(8, 9, 40), (8, 9), times=(1, 3), outlier_channels=(40,), outlier_peaks=(12.0,)
    )
    model, trace_names = lowered(treatment)
    kinds = [node.op_type for node in model.graph]
    assert len(trace_names) == 1 and kinds.count("MatMul") == 1
    assert kinds.count("Gather") == 1 and "Concat" not in kinds and "Slice" not in kinds
    codes = model.graph.initializers[trace_names[0].weight].const_value
    assert codes is not None and codes.shape == (96, N)  # 64 + 2 · 2 + 3, and rows of zeros
    rows = codes.numpy()
    np.testing.assert_array_equal(rows[64:66], np.tile(rows[8], (2, 1)))
    np.testing.assert_array_equal(rows[68:71], np.tile(rows[40], (3, 1)))
    assert rows[40].any() and not rows[71:].any()


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
