"""One GEMM, every treatment of its input, and the numpy definition of what it computes then."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Treatment
from qdeploy.deploy.lowering.groups import GemmConstraints
from tests.deploy.seen import AS_PLANNED
from tests.deploy.toys import Toy, fake_quantize

Array = npt.NDArray[Any]

K, N = 64, 24
SCALE = 1 / 32  # a power of two, so that m·s is exact
RNG = np.random.default_rng(2)
# Values that FP16 holds, so that a graph in FP16 starts from the same numbers.
X = RNG.normal(size=(2, 7, K))
X[..., (8, 9, 40)] *= 12
X = X.astype(np.float16).astype(np.float32)
BIAS = RNG.normal(size=N).astype(np.float16).astype(np.float32)
# ±c in every place: int8 represents these weights exactly however their rows are divided, so that
# the reference need not know which part of the lowering takes which channel.
SIGNS = (RNG.integers(0, 2, (K, N)) * 2 - 1).astype(np.float32) * 0.25
ROUGH = RNG.normal(size=(K, N)).astype(np.float32)
FACTORS = np.exp2(RNG.integers(-2, 3, K)).astype(np.float32)
SHIFTS = RNG.integers(-8, 9, K).astype(np.float32) / 4  # that FP16 adds without rounding, mostly


def affine(times: float = 1, zero_point: int = 128) -> Affine:
    """Scale of `times` · s."""
    return Affine(SCALE * times, zero_point)


def without(*taken: int) -> tuple[int, ...]:
    """All channels but these."""
    return tuple(c for c in range(K) if c not in taken)


def grouped(*groups: tuple[int, ...], times: tuple[float, ...], **more: Any) -> Grouped:
    """Groups with scales of times · s."""
    return Grouped(groups, tuple(affine(t) for t in times), **more)


HALVES = tuple(range(K // 2)), tuple(range(K // 2, K))
DYNAMIC, ASYMMETRIC = "dynamic", "asymmetric"
TREATMENTS: dict[str, Treatment] = {
    "per tensor": PerTensor(affine(8)),
    f"per tensor, {ASYMMETRIC}": PerTensor(affine(8, 90)),
    "pre_quant_scale": PerTensor(affine(8), tuple(float(f) for f in FACTORS)),
    "pre_quant_shift": PerTensor(
        affine(8), tuple(float(f) for f in FACTORS), tuple(float(z) for z in SHIFTS)
    ),
    DYNAMIC: Dynamic(),
    "two groups, neighbours": grouped(without(8, 9), (8, 9), times=(1, 8)),
    "two groups, scattered": grouped(without(8, 40), (8, 40), times=(1, 3)),
    "two groups, too many repetitions": grouped(without(8, 40), (8, 40), times=(1, 16)),
    "two halves": grouped(*HALVES, times=(2, 8)),
    "two halves, the finer one last": grouped(*HALVES, times=(8, 2)),
    "two halves, scattered": grouped(tuple(range(0, K, 2)), tuple(range(1, K, 2)), times=(8, 2)),
    "three groups": grouped(without(8, 9, 40), (8, 9), (40,), times=(1, 8, 4)),
    "three groups, one slim": grouped(without(1, 8, 40), (1,), (8, 40), times=(1, 2, 16)),
    "four groups": grouped(
        tuple(range(0, K - 6)), (58, 62), (59, 61), (60, 63), times=(1, 2, 16, 0.25)
    ),  # joined, too many repetitions, finer than the wide group
    "outlier channels": grouped(without(8, 9, 40), times=(1,), outlier_channels=(8, 9, 40)),
    "neighbouring outlier channels": grouped(without(8, 9), times=(1,), outlier_channels=(8, 9)),
    "groups and an outlier channel": grouped(
        without(8, 9, 40), (8, 9), times=(1, 8), outlier_channels=(40,)
    ),
    f"{ASYMMETRIC} groups": Grouped((without(8, 40), (8, 40)), (affine(1, 77), affine(4, 77)), ()),
    f"{ASYMMETRIC}, other zero points": Grouped(
        (without(8, 40), (8, 40)), (affine(1, 200), affine(8, 10)), ()
    ),
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


def two_gemms() -> ir.Model:
    """y = tanh(−x · W) · W: two GEMMs that read one square weight."""
    toy = Toy(("batch", "sequence", K))
    weight = toy.constant("shared.weight", np.tile(SIGNS, (1, 3))[:, :K])
    hidden = toy.op("Neg", toy.x, name="hidden", channels=K)
    first = toy.op("MatMul", hidden, weight, name="first", channels=K)
    between = toy.op("Tanh", first, name="tanh", channels=K)
    second = toy.op("MatMul", between, weight, name="second", channels=K)
    return toy.model(toy.op("Neg", second, name="out", channels=K))


def reference(
    x: Array, weight: Array, treatment: Treatment, cuts: GemmConstraints = AS_PLANNED
) -> Array:
    """The definition: the rounded input times the weight."""
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        factors, shift = _scales_of(treatment)
        rounded = fake_quantize((x - shift) * factors, treatment)
        return rounded @ (weight / factors[:, None]) + shift @ weight + BIAS
    result: Array = fake_quantize(x, treatment, cuts) @ weight + BIAS
    return result


def rounded_input(x: Array, treatment: Treatment, cuts: GemmConstraints = AS_PLANNED) -> Array:
    """What the products see of x, in its own units."""
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        factors, shift = _scales_of(treatment)
        result: Array = fake_quantize((x - shift) * factors, treatment) / factors + shift
        return result
    return fake_quantize(x, treatment, cuts)


def _scales_of(treatment: PerTensor) -> tuple[Array, Array]:
    """Factors and shifts, FP32 [K] each."""
    shift = treatment.pre_quant_shift or [0.0] * K
    return np.array(treatment.pre_quant_scale, np.float32), np.array(shift, np.float32)
