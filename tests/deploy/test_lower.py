"""The lowered graph of every treatment computes what the numpy definition says, on INT8 kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.affine import Affine, quantize_weight
from qdeploy.calibrate.plan import PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.groups import COARSER, REPEATED_SHARE, repetitions
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.lowering.qdq import QdqLowering
from qdeploy.deploy.ort.profile import optimized_graph
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.constants import constant
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.layer import numpy_layer, one_layer, scale_of_two, seen_by_layer
from tests.deploy.lowering_contract import share_that_differs
from tests.deploy.tolerances import ROUNDING, TIES
from tests.deploy.toys import (
    Toy,
    certified,
    fake_quantize,
    plan_of,
    planned,
    run,
    saved,
)
from tests.deploy.treated_gemm import (
    BIAS,
    FACTORS,
    ROUGH,
    SIGNS,
    TREATMENTS,
    K,
    N,
    X,
    affine,
    grouped,
    one_gemm,
    reference,
    without,
)

Array = npt.NDArray[Any]


def lower(
    model: ir.Model, treatment: Treatment, **options: Any
) -> tuple[ir.Model, Plan, Structure, dict[str, tuple[TraceName, ...]]]:
    """Lower with one treatment for every GEMM input."""
    structure = find_structure(model)
    plan = plan_of(structure, {g.input: treatment for g in structure.gemms}, **options)
    lowered = lower_ort_cpu(model, plan, structure)
    return lowered.model, plan, structure, lowered.trace_names


GAMMA = np.linspace(0.5, 2, K).astype(np.float32)
BETA = np.linspace(-1, 1, K).astype(np.float32)


def normed_gemm(weight: Array, *, read_twice: bool) -> ir.Model:
    """y = LayerNorm(x) · W + bias, and −LayerNorm(x) as a second output where wanted."""
    toy = Toy(("batch", "sequence", K))
    weights = toy.constant("norm.weight", GAMMA), toy.constant("norm.bias", BETA)
    hidden = toy.op("LayerNormalization", toy.x, *weights, name="norm", channels=K, axis=-1)
    product = toy.op("MatMul", hidden, toy.constant("gemm.weight", weight), channels=N)
    result = toy.op("Add", product, toy.constant("gemm.bias", BIAS), channels=N)
    if not read_twice:
        return toy.model(result)
    other = toy.op("Neg", hidden, name="other", channels=K)
    model = toy.model(result)
    model.graph.outputs.append(other)
    return model


@pytest.mark.parametrize("read_twice", [True, False])
def test_factors_behind_a_layer_norm_stand_in_its_weights(read_twice: bool, tmp_path: Path) -> None:
    """No multiplication; one more LayerNorm only where something else reads the first."""
    treatment = PerTensor(affine(8), tuple(float(f) for f in FACTORS))
    weight = SIGNS * FACTORS[:, None]  # exact in int8 once the factors are taken out
    model, plan, structure, trace_names = lower(
        normed_gemm(weight, read_twice=read_twice), treatment
    )
    assert "Mul" not in operators(model)
    assert operators(model).count("LayerNormalization") == 1 + read_twice
    found = run(model, tmp_path / "model.onnx", {"x": X})
    normed = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)
    hidden = normed * GAMMA + BETA
    expected = reference(hidden, weight, treatment)
    # a value on the edge of two codes may take either
    assert np.abs(found[0] - expected).max() <= 2.5 * 0.25 * affine(8).scale
    if read_twice:
        np.testing.assert_allclose(found[1], -hidden, atol=1e-4)
    report = certified(tmp_path / "model.onnx", planned(plan, structure, trace_names))
    assert report["executed"] == 1 and not report["fallbacks"]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_group_of_m_times_the_scale_joins_the_wide_gemm_as_m_rows_each() -> None:
    model, _, _, weights = lower(one_gemm(SIGNS), grouped(without(5, 20), (5, 20), times=(1, 3)))
    assert operators(model).count("MatMulIntegerToFloat") == 1
    assert "Add" not in operators(model)
    (trace_name,) = weights["gemm"]
    stored = model.graph.initializers[trace_name.weight].const_value
    assert stored is not None
    codes = stored.numpy()
    assert codes.shape == (K + 3 * 2, N)
    assert not codes[[5, 20]].any()
    for copy in range(3):
        np.testing.assert_array_equal(
            np.sign(codes[K + 2 * copy : K + 2 * copy + 2]), np.sign(SIGNS[[5, 20]])
        )


def test_a_group_that_would_need_too_many_rows_gets_a_slim_gemm() -> None:
    treatment = grouped(without(5, 20), (5, 20), times=(1, 16))
    assert REPEATED_SHARE * K < 16 * 2
    model, _, _, weights = lower(one_gemm(SIGNS), treatment)
    assert operators(model).count("MatMulIntegerToFloat") == len(weights["gemm"]) == 2
    assert operators(model).count("Add") == 1


def test_outlier_channels_meet_a_slim_float_gemm_and_zeroed_rows() -> None:
    model, _, _, weights = lower(one_gemm(ROUGH), TREATMENTS["outlier channels"])
    (slim,) = [node for node in model.graph if node.op_type == "MatMul"]
    kept = slim.inputs[1]
    assert kept is not None and kept.const_value is not None
    np.testing.assert_array_equal(kept.const_value.numpy(), ROUGH[[8, 9, 40]])
    stored = model.graph.initializers[weights["gemm"][0].weight].const_value
    assert stored is not None
    assert not stored.numpy()[[8, 9, 40]].any()


@pytest.mark.parametrize(
    ("name", "operator"),
    [("neighbouring outlier channels", "Slice"), ("outlier channels", "Gather")],
)
def test_neighbours_are_cut_out_by_a_slice(name: str, operator: str) -> None:
    model, *_ = lower(one_gemm(ROUGH), TREATMENTS[name])
    assert operators(model).count(operator) == 1
    assert operators(model).count("Slice") + operators(model).count("Gather") == 1


affines = st.builds(
    Affine,
    st.floats(2**-13, 2**7, width=32),
    st.integers(0, 255),
)


@given(affines, affines)
def test_repetitions_span_the_range_and_are_the_fewest(wide: Affine, other: Affine) -> None:
    """m·s reaches both ends of the other range, m − 1 does not, and m·s is not too coarse."""
    times = repetitions(wide, other)

    def reaches(m: int) -> bool:
        low = m * wide.scale * wide.zero_point >= other.scale * other.zero_point * (1 - 1e-5)
        high = m * wide.scale * (255 - wide.zero_point)
        return low and high >= other.scale * (255 - other.zero_point) * (1 - 1e-5)

    if times is None:
        fewest = 1
        while not reaches(fewest) and fewest * wide.scale <= COARSER * other.scale:
            fewest += 1
        # one step of slack: both comparisons round
        assert not reaches(fewest) or (fewest + 1) * wide.scale > COARSER * other.scale
        return
    assert times >= 1
    assert reaches(times)
    assert times * wide.scale <= COARSER * other.scale
    slack = 1 - 1e-4
    sides = [(wide.zero_point, other.zero_point), (255 - wide.zero_point, 255 - other.zero_point)]
    short = [(times - 1) * wide.scale * w < other.scale * o / slack for w, o in sides if o]
    assert times == 1 or any(short)


@given(st.integers(1, 30), st.integers(1, 254))
def test_a_whole_multiple_needs_as_many_repetitions(times: int, zero_point: int) -> None:
    assert repetitions(affine(1, zero_point), affine(times, zero_point)) == times


# Scope all


@pytest.mark.parametrize("form", ["per tensor", "grouped", "outliers"])
def test_scope_all_quantizes_every_site_and_equals_numpy(form: str, tmp_path: Path) -> None:
    model, arrays = one_layer()
    structure = find_structure(model)
    names = [f"{n}.out" for n in ("hidden", "first", "gelu", "second", "sum", "norm", "head")]
    assert [site.tensor for site in structure.sites] == names
    seen = seen_by_layer(arrays)
    treatments = {name: scale_of_two(seen[name], form) for name in names}
    plan = plan_of(structure, treatments, scope="all")
    lowered = lower_ort_cpu(model, plan, structure).model
    quantizers = operators(lowered).count("QuantizeLinear")
    # a grouped GEMM input that others read too is quantized for both
    assert quantizers == len(names) if form == "per tensor" else quantizers >= len(names)
    (found,) = run(lowered, tmp_path / "model.onnx", {"x": X})
    expected = numpy_layer(X, arrays, lambda name, v: fake_quantize(v, treatments[name]))
    assert share_that_differs(found, expected, ROUNDING) <= TIES
    for left_out in names:  # equality above proves each site only if each site matters

        def others(name: str, value: Array, left_out: str = left_out) -> Array:
            return value if name == left_out else fake_quantize(value, treatments[name])

        assert share_that_differs(found, numpy_layer(X, arrays, others), ROUNDING) > 10 * TIES


def test_every_planned_weight_is_read_in_the_optimized_graph(tmp_path: Path) -> None:
    """The proof looks at the graph that runs, not at the one that was written."""
    model, *_, weights = lower(one_gemm(SIGNS), TREATMENTS["three groups, one slim"])
    optimized = optimized_graph(saved(model, tmp_path / "model.onnx"))
    readers = {
        str(value.name): node.op_type
        for node in optimized.graph
        for value in node.inputs
        if value is not None
    }
    assert {readers[trace_name.weight] for trace_name in weights["gemm"]} == {
        "MatMulIntegerToFloat"
    }


@pytest.mark.parametrize("together", [False, True], ids=["nearest", "compensated"])
def test_a_lowering_of_fewer_bits_has_no_further_codes(together: bool) -> None:
    class SixBits(QdqLowering):
        largest = 31

    model = one_gemm(ROUGH)
    structure = find_structure(model)
    plan = plan_of(structure, {g.input: TREATMENTS["per tensor"] for g in structure.gemms})
    spread = np.ones((K, K)) + 0.01 * np.eye(K) if together else None
    sites = {t: replace(site, covariance=spread) for t, site in plan.sites.items()}
    lowered = SixBits(model, replace(plan, sites=sites), structure, 1).run()
    (trace,) = lowered.trace_names["gemm"]
    codes = constant(lowered.model.graph.initializers[trace.weight])
    assert codes is not None and np.abs(codes).max() == 31
    nearest, scale = quantize_weight(ROUGH, per_channel=True, largest=31)
    assert np.array_equal(codes, nearest) is not together
    stored = constant(lowered.model.graph.initializers["gemm.weight_scale"])
    np.testing.assert_array_equal(stored, scale)
