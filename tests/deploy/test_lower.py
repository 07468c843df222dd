"""The lowered graph of every treatment computes what the numpy definition says, on INT8 kernels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.groups import COARSER, REPEATED_SHARE, repetitions
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.profile import optimized_graph
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.tolerances import ROUNDING, TIES
from tests.deploy.toys import (
    Toy,
    certified,
    fake_quantize,
    plan_of,
    planned,
    rounded_weight,
    run,
    saved,
)

Array = npt.NDArray[Any]

K, N = 32, 24
SCALE = 1 / 32  # a power of two, so that m·s is exact
RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 7, K)).astype(np.float32)
X[..., (5, 20)] *= 12
BIAS = RNG.normal(size=N).astype(np.float32)
# ±c in every place: int8 represents these weights exactly however their rows are divided, so that
# the reference need not know which part of the lowering takes which channel.
SIGNS = (RNG.integers(0, 2, (K, N)) * 2 - 1).astype(np.float32)
ROUGH = RNG.normal(size=(K, N)).astype(np.float32)
FACTORS = np.exp2(RNG.integers(-2, 3, K)).astype(np.float32)


def affine(times: float = 1, zero_point: int = 128) -> Affine:
    """Scale of `times` · s."""
    return Affine(SCALE * times, zero_point)


def without(*taken: int) -> tuple[int, ...]:
    """All channels but these."""
    return tuple(c for c in range(K) if c not in taken)


def grouped(*groups: tuple[int, ...], times: tuple[float, ...], **more: Any) -> Grouped:
    """Groups with scales of times · s."""
    return Grouped(groups, tuple(affine(t) for t in times), **more)


TREATMENTS: dict[str, Treatment] = {
    "per tensor": PerTensor(affine(8)),
    "per tensor, asymmetric": PerTensor(affine(8, 90)),
    "prescale": PerTensor(affine(8), tuple(float(f) for f in FACTORS)),
    "dynamic": Dynamic(),
    "two groups, neighbours": grouped(without(4, 5), (4, 5), times=(1, 8)),
    "two groups, scattered": grouped(without(5, 20), (5, 20), times=(1, 3)),
    "two groups, too many repetitions": grouped(without(5, 20), (5, 20), times=(1, 8)),
    "two halves": grouped(tuple(range(16)), tuple(range(16, 32)), times=(2, 8)),
    "two halves, scattered": grouped(tuple(range(0, 32, 2)), tuple(range(1, 32, 2)), times=(8, 2)),
    "three groups": grouped(without(5, 20), (5,), (20,), times=(1, 4, 4)),
    "three groups, one slim": grouped(without(1, 5, 20), (1,), (5, 20), times=(1, 2, 8)),
    "four groups": grouped(
        tuple(range(0, 26)), (26, 30), (27, 29), (28, 31), times=(1, 2, 4, 0.25)
    ),  # joined, too many repetitions, finer than the wide group
    "outlier channels": grouped(without(5, 20), times=(1,), outlier_channels=(5, 20)),
    "neighbouring outlier channels": grouped(without(4, 5), times=(1,), outlier_channels=(4, 5)),
    "groups and an outlier channel": grouped(
        without(5, 9, 20), (9, 20), times=(1, 3), outlier_channels=(5,)
    ),
    "asymmetric groups": Grouped((without(5, 20), (5, 20)), (affine(1, 77), affine(4, 77)), ()),
    "other zero points": Grouped((without(5, 20), (5, 20)), (affine(1, 200), affine(8, 10)), ()),
}


def one_gemm(weight: Array, *, form: str = "MatMul") -> ir.Model:
    """y = −x · W + bias as MatMul and Add, or as a 2-D Gemm with W stored upright or not."""
    if form == "MatMul":
        toy = Toy(("batch", "sequence", K))
        hidden = toy.op("Neg", toy.x, name="neg", channels=K)
        product = toy.op("MatMul", hidden, toy.constant("gemm.weight", weight), channels=N)
        return toy.model(toy.op("Add", product, toy.constant("gemm.bias", BIAS), channels=N))
    toy = Toy(("batch", K))
    hidden = toy.op("Neg", toy.x, name="neg", channels=K)
    turned = form == "Gemm, transB"
    stored = toy.constant("gemm.weight", weight.T if turned else weight)
    bias = toy.constant("gemm.bias", BIAS)
    return toy.model(toy.op("Gemm", hidden, stored, bias, channels=N, transB=int(turned)))


def lower(
    model: ir.Model, treatment: Treatment, **options: Any
) -> tuple[ir.Model, Plan, Structure, dict[str, tuple[TraceName, ...]]]:
    """Lower with one treatment for every GEMM input."""
    structure = find_structure(model)
    plan = plan_of(structure, {g.input: treatment for g in structure.gemms}, **options)
    lowered = lower_ort_cpu(model, plan, structure)
    return lowered.model, plan, structure, lowered.trace_names


def reference(x: Array, weight: Array, treatment: Treatment) -> Array:
    """The definition: the rounded input times the weight."""
    if isinstance(treatment, PerTensor) and treatment.prescale:
        factors = np.array(treatment.prescale, np.float32)
        return fake_quantize(x * factors, treatment) @ (weight / factors[:, None]) + BIAS
    result: Array = fake_quantize(x, treatment) @ weight + BIAS
    return result


def assert_close(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("name", TREATMENTS)
def test_values_and_kernels_of_a_single_gemm(name: str, per_channel: bool, tmp_path: Path) -> None:
    treatment = TREATMENTS[name]
    weight = SIGNS * 0.25
    if isinstance(treatment, PerTensor) and treatment.prescale:
        weight = weight * np.array(treatment.prescale, np.float32)[:, None]
    model, plan, structure, weights = lower(
        one_gemm(weight), treatment, per_channel_weights=per_channel
    )
    (found,) = run(model, tmp_path / "model.onnx", {"x": X})
    assert_close(found, reference(-X, weight, treatment))
    report = certified(tmp_path / "model.onnx", planned(plan, structure, weights))
    assert report["planned"] == report["executed"] == 1
    assert not report["fallbacks"]


@pytest.mark.parametrize("form", ["MatMul", "Gemm", "Gemm, transB"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
def test_weights_are_rounded_as_defined(form: str, per_channel: bool, tmp_path: Path) -> None:
    treatment, x = TREATMENTS["per tensor, asymmetric"], X if form == "MatMul" else X[0]
    model, *_ = lower(one_gemm(ROUGH, form=form), treatment, per_channel_weights=per_channel)
    (found,) = run(model, tmp_path / "model.onnx", {"x": x})
    rounded = rounded_weight(ROUGH, per_channel=per_channel)
    assert_close(found, reference(-x, rounded, treatment))
    assert not np.allclose(found, reference(-x, ROUGH, treatment), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in TREATMENTS if name != "dynamic"])
@pytest.mark.parametrize("form", ["MatMul", "Gemm, transB"])
def test_the_mean_error_of_rounded_weights_goes_into_the_bias(
    form: str, name: str, tmp_path: Path
) -> None:
    """Calibrated on these very rows, outputs keep their mean but for the inputs' rounding."""
    treatment, rows = TREATMENTS[name], (X + 1).reshape(-1, K)
    x = rows[None] if form == "MatMul" else rows
    structure = find_structure(one_gemm(ROUGH, form=form))
    plan = plan_of(structure, {g.input: treatment for g in structure.gemms})
    errors = []
    for mean in ((), tuple(float(m) for m in -rows.mean(axis=0))):
        sites = {tensor: replace(site, mean=mean) for tensor, site in plan.sites.items()}
        model = one_gemm(ROUGH, form=form)
        lowered = lower_ort_cpu(model, replace(plan, sites=sites), structure).model
        (found,) = run(lowered, tmp_path / "model.onnx", {"x": x})
        rounded = fake_quantize_input(-rows, treatment) @ ROUGH + BIAS
        errors.append(np.abs((found.reshape(-1, N) - rounded).mean(axis=0)).max())
    plain, corrected = errors
    assert corrected < plain / 2


def fake_quantize_input(x: Array, treatment: Treatment) -> Array:
    """What the products see of x, in its own units."""
    if isinstance(treatment, PerTensor) and treatment.prescale:
        factors = np.array(treatment.prescale, np.float32)
        result: Array = fake_quantize(x * factors, treatment) / factors
        return result
    return fake_quantize(x, treatment)


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
    weight = SIGNS * 0.25 * FACTORS[:, None]  # exact in int8 once the factors are taken out
    model, plan, structure, marks = lower(normed_gemm(weight, read_twice=read_twice), treatment)
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
    report = certified(tmp_path / "model.onnx", planned(plan, structure, marks))
    assert report["executed"] == 1 and not report["fallbacks"]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_group_of_m_times_the_scale_joins_the_wide_gemm_as_m_rows_each() -> None:
    model, _, _, weights = lower(one_gemm(SIGNS), grouped(without(5, 20), (5, 20), times=(1, 3)))
    assert operators(model).count("MatMulIntegerToFloat") == 1
    assert "Add" not in operators(model)
    (mark,) = weights["gemm"]
    stored = model.graph.initializers[mark.weight].const_value
    assert stored is not None
    codes = stored.numpy()
    assert codes.shape == (K + 3 * 2, N)
    assert not codes[[5, 20]].any()
    for copy in range(3):
        np.testing.assert_array_equal(
            np.sign(codes[K + 2 * copy : K + 2 * copy + 2]), SIGNS[[5, 20]]
        )


def test_a_group_that_would_need_too_many_rows_gets_a_slim_gemm() -> None:
    treatment = grouped(without(5, 20), (5, 20), times=(1, 8))
    assert REPEATED_SHARE * K < 8 * 2
    model, _, _, weights = lower(one_gemm(SIGNS), treatment)
    assert operators(model).count("MatMulIntegerToFloat") == len(weights["gemm"]) == 2
    assert operators(model).count("Add") == 1


def test_outlier_channels_meet_a_slim_float_gemm_and_zeroed_rows() -> None:
    model, _, _, weights = lower(one_gemm(ROUGH), TREATMENTS["outlier channels"])
    (slim,) = [node for node in model.graph if node.op_type == "MatMul"]
    kept = slim.inputs[1]
    assert kept is not None and kept.const_value is not None
    np.testing.assert_array_equal(kept.const_value.numpy(), ROUGH[[5, 20]])
    stored = model.graph.initializers[weights["gemm"][0].weight].const_value
    assert stored is not None
    assert not stored.numpy()[[5, 20]].any()


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


def one_layer() -> tuple[ir.Model, dict[str, Array]]:
    """A feed-forward block: GEMM, Gelu, GEMM, residual sum, LayerNormalization, head."""
    toy = Toy(("batch", "sequence", K), opset=20)
    rng = np.random.default_rng(3)

    def parameter(name: str, *shape: int) -> Array:
        return (rng.integers(0, 2, shape) * 2 - 1).astype(np.float32) / 8

    arrays = {
        "first.weight": parameter("first", K, 2 * K),
        "second.weight": parameter("second", 2 * K, K),
        "head.weight": parameter("head", K, N),
        "gamma": rng.uniform(0.5, 1.5, K).astype(np.float32),
        "beta": rng.normal(size=K).astype(np.float32),
    }
    values = {name: toy.constant(name, array) for name, array in arrays.items()}
    hidden = toy.op("Neg", toy.x, name="hidden", channels=K)
    first = toy.op("MatMul", hidden, values["first.weight"], name="first", channels=2 * K)
    gelu = toy.op("Gelu", first, name="gelu", channels=2 * K)
    second = toy.op("MatMul", gelu, values["second.weight"], name="second", channels=K)
    total = toy.op("Add", second, hidden, name="sum", channels=K)
    norm = toy.op(
        "LayerNormalization", total, values["gamma"], values["beta"], name="norm", channels=K
    )
    head = toy.op("MatMul", norm, values["head.weight"], name="head", channels=N)
    return toy.model(toy.op("Neg", head, name="out", channels=N)), arrays


def numpy_layer(x: Array, arrays: dict[str, Array], fake: Any) -> Array:
    """The same in numpy; `fake(tensor name, value)` stands at every site."""
    erf = np.vectorize(math.erf)
    hidden = fake("hidden.out", -x)
    first = fake("first.out", hidden @ arrays["first.weight"])
    gelu = fake("gelu.out", (first * (1 + erf(first / np.sqrt(2))) / 2).astype(np.float32))
    second = fake("second.out", gelu @ arrays["second.weight"])
    total = fake("sum.out", second + hidden)
    centred = total - total.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    norm = fake(
        "norm.out", (centred / spread * arrays["gamma"] + arrays["beta"]).astype(np.float32)
    )
    result: Array = -fake("head.out", norm @ arrays["head.weight"])
    return result


@pytest.mark.parametrize("form", ["per tensor", "grouped", "outliers"])
def test_scope_all_quantizes_every_site_and_equals_numpy(form: str, tmp_path: Path) -> None:
    model, arrays = one_layer()
    structure = find_structure(model)
    names = [f"{n}.out" for n in ("hidden", "first", "gelu", "second", "sum", "norm", "head")]
    assert [site.tensor for site in structure.sites] == names
    seen: dict[str, Array] = {}
    numpy_layer(X, arrays, lambda name, value: seen.setdefault(name, value))
    treatments = {name: scale_of_two(seen[name], form) for name in names}
    plan = plan_of(structure, treatments, scope="all")
    lowered = lower_ort_cpu(model, plan, structure).model
    quantizers = operators(lowered).count("QuantizeLinear")
    # a grouped GEMM input that others read too is quantized for both
    assert quantizers == len(names) if form == "per tensor" else quantizers >= len(names)
    (found,) = run(lowered, tmp_path / "model.onnx", {"x": X})
    expected = numpy_layer(X, arrays, lambda name, v: fake_quantize(v, treatments[name]))
    assert _share_that_differs(found, expected) <= TIES
    for left_out in names:  # equality above proves each site only if each site matters

        def others(name: str, value: Array, left_out: str = left_out) -> Array:
            return value if name == left_out else fake_quantize(value, treatments[name])

        assert _share_that_differs(found, numpy_layer(X, arrays, others)) > 10 * TIES


def _share_that_differs(found: Array, expected: Array) -> float:
    return float((np.abs(found - expected) > ROUNDING * np.abs(expected).max()).mean())


def scale_of_two(value: Array, form: str) -> Treatment:
    """Scales are powers of two and multiples of each other, so that repeated rows are exact."""
    top, channels = float(np.abs(value).max()), value.shape[-1]
    scale = float(np.exp2(np.ceil(np.log2(top / 127))))
    if form == "per tensor":
        return PerTensor(Affine(scale, 128))
    peak = np.abs(value).reshape(-1, channels).max(axis=0)
    loud = tuple(sorted(int(c) for c in np.argsort(peak)[-2:]))
    rest = tuple(c for c in range(channels) if c not in loud)
    if form == "outliers":
        return Grouped((rest,), (Affine(scale / 2, 128),), loud)
    return Grouped((rest, loud), (Affine(scale / 2, 128), Affine(scale, 128)))


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
    assert {readers[mark.weight] for mark in weights["gemm"]} == {"MatMulIntegerToFloat"}
