"""What stands on constants alone is computed when a directory is read, and bounded before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qdeploy.onnx_file.check import check_inside
from tests.deploy.onnx_graphs import graph_of
from tests.deploy.refusals import refused, written
from tests.onnx_text import read_nodes


def computing(made: str, **constants: Any) -> onnx.ModelProto:
    """A graph whose node `c` is made of constants, and added to the input."""
    last = "m = ReduceMax<keepdims = 0>(c) y = Add(x, m)"
    return graph_of(read_nodes(f"{made} {last}"), constants)


def chained(operator: str, count: int, start: str, **constants: Any) -> onnx.ModelProto:
    made = (f"c{at + 1} = {operator}(c{at}, c{at})" for at in range(count))
    return computing(f"{start} {' '.join(made)} c = Identity(c{count})", **constants)


GROWING: dict[str, Any] = {
    "doubled": lambda: chained(
        "Concat<axis = 0>", 16, "c0 = ConstantOfShape(s)", s=np.array([2**20])
    ),
    "multiplied": lambda: chained(
        "MatMul", 200, "c0 = ConstantOfShape(s)", s=np.array([4096, 4096])
    ),
    "multiplied and small": lambda: chained(
        "MatMul", 10_000, "c0 = Identity(w0)", w0=np.ones((512, 512), np.float32)
    ),
    "spread": lambda: computing(
        "c0 = ConstantOfShape(s) c1 = Transpose<perm = [1, 0]>(c0) c = Add(c0, c1)",
        s=np.array([1, 2**15]),
    ),
    "computed shape": lambda: computing(
        "t = Mul(s, s) c = ConstantOfShape(t)", s=np.array([2**16])
    ),
    "expanded by a computed shape": lambda: computing(
        "t = Mul(s, s) c = Expand(one, t)", s=np.array([2**16]), one=np.float32(1)
    ),
    "shape in an attribute": lambda: computing(
        f"s = Constant<value_ints = [{2**40}]>() c = ConstantOfShape(s)"
    ),
    "tiled": lambda: computing("c0 = Tile(w, r) c = Tile(c0, r)", r=np.array([2**12, 2**12])),
    "ranged": lambda: computing(
        "c = Range(a, b, d)", a=np.float32(0), b=np.float32(1e12), d=np.float32(1)
    ),
    "gathered": lambda: computing(
        "i = ConstantOfShape<value = int64[1] {0}>(s) c = Gather(t, i)",
        s=np.array([2**20]),
        t=np.ones((2, 4096), np.float32),
    ),
    "padded": lambda: computing("c = Pad(w, p)", p=np.array([2**20, 0, 0, 0])),
    "resized": lambda: computing("c = Resize(w, , f)", f=np.array([1e6, 1e6], np.float32)),
    "one hot": lambda: computing(
        "c = OneHot(i, d, v)",
        i=np.zeros(2**16, np.int64),
        d=np.array(2**16),
        v=np.array([0.0, 1.0]),
    ),
    "kept many times": lambda: computing(
        "c = ConstantOfShape(s) " + " ".join(f"n{at} = Neg(c)" for at in range(100)),
        s=np.array([2**24]),
    ),
    "many nodes": lambda: graph_of(
        read_nodes(
            "a0 = Relu(x) "
            + " ".join(f"a{at + 1} = Relu(a{at})" for at in range(19_999))
            + " y = Relu(a19999)"
        )
    ),
}


@pytest.mark.parametrize("kind", GROWING)
def test_constants_alone_make_nothing_large(kind: str, tmp_path: Path) -> None:
    refused(written(tmp_path, GROWING[kind]()), check_inside)


def test_a_table_of_positions_that_every_layer_multiplies(tmp_path: Path) -> None:
    """What DeBERTa leaves of constants alone: twice in each of 24 layers, of 1024 channels."""
    layer = """
        a{0} = MatMul(stack, weight)
        b{0} = Add(a{0}, ones)
        c{0} = Reshape<allowzero = 1>(b{0}, heads)
        d{0} = Transpose<perm = [0, 2, 1, 3]>(c{0})
        e{0} = Reshape<allowzero = 1>(d{0}, folded)
        f{0} = Expand(e{0}, folded)
    """
    normal = "normal = LayerNormalization<axis = -1>(table, ones, ones)"
    start = f"{normal} stack = Unsqueeze(normal, first) y = Relu(x)"
    nodes = read_nodes(start + "".join(layer.format(at) for at in range(48)))
    constants = {
        "table": np.ones((512, 1024), np.float32),
        "weight": np.ones((1024, 1024), np.float32),
        "ones": np.ones(1024, np.float32),
        "first": np.array([0]),
        "heads": np.array([1, 512, 16, 64]),
        "folded": np.array([16, 512, 64]),
    }
    check_inside(written(tmp_path, graph_of(nodes, constants)))


def test_axes_without_end_are_not_followed(tmp_path: Path) -> None:
    made = ["c0 = Unsqueeze(w, a)"]
    made += [f"c{at + 1} = Unsqueeze(c{at}, a)" for at in range(4999)]
    made += [f"c{at + 1} = Gather(c{at}, c{at})" for at in range(4999, 5039)]
    path = written(tmp_path, computing(" ".join([*made, "c = Identity(c5039)"]), a=np.arange(60)))
    refused(path, check_inside)
