"""Graphs that keep TensorRT's rules are compiled as their pairs say, by TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from qdeploy.deploy.targets.tensorrt import rules
from tests.deploy.rule_graphs import (
    E4M3,
    FP8_PAIR,
    INT4,
    SCALE,
    K,
    N,
    Outcome,
    compiled,
    convolution,
    cut_by_split,
    float_stored,
    float_stored_heads,
    half,
    joined_tensors,
    keys_and_values,
    moved,
    norm,
    three_products,
    toy,
    turned,
    two_of_one_pair,
)
from tests.deploy.test_tensorrt_rules import gemm

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
IS_INT8, IS_FP8, BUILDS = Outcome.INT8, Outcome.FP8, Outcome.BUILDS
FLAT = ("b", K)
KEPT: dict[str, tuple[ir.Model, Outcome]] = {
    "MatMul, a scale per column": (gemm(), IS_INT8),
    "MatMul, one scale": (gemm(weight_scale=half(0.1)), IS_INT8),
    "Gemm transB, a scale per row": (toy(turned(0, N), FLAT), IS_INT8),
    "Conv, a scale per output channel": (toy(convolution, ("b", K, "s")), IS_INT8),
    "a pair of two products": (toy(two_of_one_pair), IS_INT8),
    "a pair of a product and a residual sum": (
        toy(lambda g: g.op("Add", g.product(x := g.pair(), g.weight(shape=(K, K)), K), x)),
        IS_INT8,
    ),
    "a float bias": (
        toy(lambda g: g.op("Gemm", g.pair(), g.weight(), g.ones(N), name="gemm"), FLAT),
        IS_INT8,
    ),
    "query, key and value of one pair": (toy(three_products), IS_INT8),
    "a turned weight": (
        toy(lambda g: g.quantized(g.op("Transpose", g.weight(shape=(N, K), axis=0)))),
        IS_INT8,
    ),
    "a weight of which columns are cut": (
        toy(
            lambda g: g.quantized(
                g.op("Slice", g.weight(), g.numbers(0), g.numbers(8), g.numbers(1))
            )
        ),
        IS_INT8,
    ),
    "a weight with a factor per column": (
        toy(lambda g: g.quantized(g.op("Mul", g.weight(), g.ones(N)))),
        IS_INT8,
    ),
    "Transpose behind the pair": (toy(moved("Transpose", perm=[1, 0, 2])), IS_INT8),
    "Reshape behind the pair": (toy(moved("Reshape", -1, K)), IS_INT8),
    "Slice behind the pair": (toy(moved("Slice", 0, 16, 2, k=16)), IS_INT8),
    "Dropout behind the pair": (toy(moved("Dropout")), IS_INT8),
    "Concat of one scale": (toy(joined_tensors(0.1)), IS_INT8),
    "an int4 weight": (toy(lambda g: g.quantized(g.weight(kind=INT4))), IS_INT8),
    "odd sizes": (
        toy(lambda g: g.quantized(g.weight(shape=(31, 17)), 17), ("b", "s", 31)),
        IS_INT8,
    ),
    "halves of a gated unit": (
        toy(lambda g: g.op("Mul", *g.parts(g.quantized(g.weight(shape=(K, 2 * N)), 2 * N), 2))),
        IS_INT8,
    ),
    "key and value of one product": (
        toy(keys_and_values),
        IS_INT8,
    ),
    "three parts without heads": (
        toy(lambda g: g.op("Sum", *g.parts(g.joined()))),
        IS_INT8,
    ),
    "a pair before the cut into heads": (
        toy(lambda g: g.op("Sum", *map(g.heads, g.parts(g.pair(g.joined(), "y"))))),
        IS_INT8,
    ),
    "query, key and value of one product, whose weight is stored in float": (
        toy(float_stored_heads),
        IS_INT8,
    ),
    "a Concat of weights that are stored in float": (
        toy(
            lambda g: g.quantized(
                g.op("Concat", float_stored(g, N), float_stored(g, N, "w2"), axis=1), 2 * N
            )
        ),
        IS_INT8,
    ),
    "three parts, one scale": (toy(lambda g: cut_by_split(g, scale=SCALE)), IS_INT8),
    "a LayerNormalization of one output": (toy(norm("")), BUILDS),
    "FP8": (toy(lambda g: g.product(g.pair(**FP8_PAIR), g.weight(kind=E4M3))), IS_FP8),
}


@pytest.mark.parametrize("what", KEPT)
def test_a_graph_that_keeps_the_rules_is_compiled_as_it_says(what: str, tmp_path: Path) -> None:
    model, expected = KEPT[what]
    assert rules.broken_rules(model) == []
    outcome, text = compiled(model, tmp_path, "8.9" if expected is IS_FP8 else "8.6")
    assert outcome is expected, text
