"""Shapes and sizes: what is computed, what comes from an attribute, what is only large."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.deploy.onnx_graphs import Make, graph_of, int64, made_by, node


def _into_product(made: Sequence[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """`made` ends in c, which is added to x."""
    last = [node("ReduceMax", ["c"], ["m"], keepdims=0), node("Add", ["x", "m"], ["a"])]
    return graph_of([*made, *last, node("MatMul", ["a", "w"], ["y"], "gemm")], constants)


def computed_shape(rng: random.Random) -> onnx.ModelProto:
    """Where no rule sees it: the shape is a product of small numbers."""
    size = 2 ** rng.choice((10, 16, 20))
    made = [
        node("Mul", ["half", "half"], ["shape"]),
        rng.choice(
            (
                node("ConstantOfShape", ["shape"], ["c"]),
                node("Expand", ["one", "shape"], ["c"]),
                node("Tile", ["one3", "shape"], ["c"]),
            )
        ),
    ]
    constants = {"half": int64(size, size, 1), "one": np.ones(1, np.float32)}
    return _into_product(made, constants | {"one3": np.ones((1, 1, 1), np.float32)})


def doubled(rng: random.Random) -> onnx.ModelProto:
    made = [node("Concat", ["c0", "c0"], ["c1"], axis=0)]
    steps = rng.choice((30, 36, 60))
    made += [node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(1, steps)]
    made.append(node("Identity", [f"c{steps}"], ["c"]))
    return _into_product(made, {"c0": np.ones(8, np.float32)})


def made(rng: random.Random) -> onnx.ModelProto:
    """One node whose inputs say how much it makes."""
    ends = {"a": np.array(0), "b": np.array(2**40), "one": np.array(1)}
    forms: list[tuple[onnx.NodeProto, dict[str, Any]]] = [
        (node("Range", ["a", "b", "one"], ["c"]), ends),
        (node("Pad", ["w", "p"], ["c"]), {"p": int64(2**40, 0, 0, 0)}),
        (node("Resize", ["w", "", "f"], ["c"]), {"f": np.array([1e6, 1e6], np.float32)}),
        (node("RandomNormal", [], ["c"], shape=[2**40]), {}),
        (node("RandomUniform", [], ["c"], shape=[2**20, 2**20]), {}),
        (node("Tile", ["w", "p"], ["c"]), {"p": int64(2**30, 2**10)}),
    ]
    form, constants = rng.choice(forms)
    return _into_product([form], constants)


def large_products(rng: random.Random) -> onnx.ModelProto:
    """Constant folding computes these for minutes."""
    size = 4096
    made = [node("Expand", ["one", "shape"], ["c0"])]
    made += [node("MatMul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(200)]
    made.append(node("Identity", ["c200"], ["c"]))
    return _into_product(made, {"one": np.ones((1, 1), np.float32), "shape": int64(size, size)})


def input_of(*shape: int | str) -> Make:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    return made_by(lambda rng: graph_of([node("Relu", ["x"], ["y"])], inputs=[value]))


def diamond(rng: random.Random) -> onnx.ModelProto:
    """2^n ways from the weight to the product."""
    made = [node("Add", ["w", "w"], ["c1"])]
    made += [node("Add", [f"c{i}"] * 2, [f"c{i + 1}"]) for i in range(1, rng.choice((60, 900)))]
    return graph_of([*made, node("MatMul", ["x", made[-1].output[0]], ["y"], "gemm")])


def chain(rng: random.Random) -> onnx.ModelProto:
    steps = rng.choice((5_000, 20_000))
    operator = rng.choice(("Identity", "Neg", "Transpose"))
    made = [node(operator, ["w"], ["c1"])]
    made += [node(operator, [f"c{i}"], [f"c{i + 1}"]) for i in range(1, steps)]
    return graph_of([*made, node("MatMul", ["x", f"c{steps}"], ["y"], "gemm")])
