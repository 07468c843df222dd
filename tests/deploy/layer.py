"""A feed-forward block as a graph, and in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Grouped, PerTensor, Treatment
from tests.deploy.toys import Toy
from tests.deploy.treated_gemm import K, N, X

Array = npt.NDArray[Any]


def one_layer(opset: int = 21) -> tuple[ir.Model, dict[str, Array]]:
    """A feed-forward block: GEMM, Gelu, GEMM, residual sum, LayerNormalization, head."""
    toy = Toy(("batch", "sequence", K), opset=opset)
    rng = np.random.default_rng(3)

    def parameter(*shape: int) -> Array:
        return (rng.integers(0, 2, shape) * 2 - 1).astype(np.float32) / 8

    arrays = {
        "first.weight": parameter(K, 2 * K),
        "second.weight": parameter(2 * K, K),
        "head.weight": parameter(K, N),
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


Fake = Callable[[str, Array], Array]


def numpy_layer(x: Array, arrays: dict[str, Array], fake: Fake, *, skip_too: bool = True) -> Array:
    """The same in numpy; `fake(tensor name, value)` stands at every site.

    Args:
        skip_too: the residual sum reads what `fake` makes of the input; else the input as it is.
    """
    erf = np.vectorize(math.erf)
    hidden = fake("hidden.out", -x)
    first = fake("first.out", hidden @ arrays["first.weight"])
    gelu = fake("gelu.out", (first * (1 + erf(first / np.sqrt(2))) / 2).astype(np.float32))
    second = fake("second.out", gelu @ arrays["second.weight"])
    total = fake("sum.out", second + (hidden if skip_too else -x))
    centred = total - total.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    norm = fake(
        "norm.out", (centred / spread * arrays["gamma"] + arrays["beta"]).astype(np.float32)
    )
    result: Array = -fake("head.out", norm @ arrays["head.weight"])
    return result


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


def seen_by_layer(arrays: dict[str, Array]) -> dict[str, Array]:
    """Every tensor of `one_layer` in FP32, by name."""
    seen: dict[str, Array] = {}
    numpy_layer(X, arrays, lambda name, value: seen.setdefault(name, value))
    return seen
