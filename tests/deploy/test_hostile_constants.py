"""What stands on constants alone is computed when a directory is read, and bounded before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qdeploy.onnx_file.check import check_inside
from tests.deploy.onnx_graphs import graph_of, node
from tests.deploy.refusals import refused, written


def computing(made: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A graph whose node `c` is made of constants, and added to the input."""
    last = [node("ReduceMax", ["c"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    return graph_of([*made, *last], constants)


def chained(operator: str, count: int, start: list[onnx.NodeProto], **constants: Any) -> Any:
    made = [node(operator, [f"c{at}"] * 2, [f"c{at + 1}"]) for at in range(count)]
    if operator == "Concat":
        for one in made:
            one.attribute.append(helper.make_attribute("axis", 0))
    return computing([*start, *made, node("Identity", [f"c{count}"], ["c"])], **constants)


_MADE = node("ConstantOfShape", ["s"], ["c0"])

_SQUARE = np.array([4096, 4096])

GROWING: dict[str, Any] = {
    "doubled": lambda: chained("Concat", 16, [_MADE], s=np.array([2**20])),
    "multiplied": lambda: chained("MatMul", 200, [_MADE], s=_SQUARE),
    "multiplied and small": lambda: chained(
        "MatMul", 10_000, [node("Identity", ["w0"], ["c0"])], w0=np.ones((512, 512), np.float32)
    ),
    "spread": lambda: computing(
        [node("ConstantOfShape", ["s"], ["c0"]), node("Transpose", ["c0"], ["c1"], perm=[1, 0]),
         node("Add", ["c0", "c1"], ["c"])], s=np.array([1, 2**15])),
    "computed shape": lambda: computing(
        [node("Mul", ["s", "s"], ["t"]), node("ConstantOfShape", ["t"], ["c"])],
        s=np.array([2**16])),
    "expanded by a computed shape": lambda: computing(
        [node("Mul", ["s", "s"], ["t"]), node("Expand", ["one", "t"], ["c"])],
        s=np.array([2**16]), one=np.float32(1)),
    "shape in an attribute": lambda: computing(
        [node("Constant", [], ["s"], value_ints=[2**40]), node("ConstantOfShape", ["s"], ["c"])]),
    "tiled": lambda: computing(
        [node("Tile", ["w", "r"], ["c0"]), node("Tile", ["c0", "r"], ["c"])],
        r=np.array([2**12, 2**12])),
    "ranged": lambda: computing(
        [node("Range", ["a", "b", "d"], ["c"])], a=np.float32(0), b=np.float32(1e12),
        d=np.float32(1)),
    "gathered": lambda: computing(
        [node("ConstantOfShape", ["s"], ["i"], value=numpy_helper.from_array(np.array([0]))),
         node("Gather", ["t", "i"], ["c"])],
        s=np.array([2**20]), t=np.ones((2, 4096), np.float32)),
    "padded": lambda: computing([node("Pad", ["w", "p"], ["c"])], p=np.array([2**20, 0, 0, 0])),
    "resized": lambda: computing(
        [node("Resize", ["w", "", "f"], ["c"])], f=np.array([1e6, 1e6], np.float32)),
    "one hot": lambda: computing(
        [node("OneHot", ["i", "d", "v"], ["c"])], i=np.zeros(2**16, np.int64), d=np.array(2**16),
        v=np.array([0.0, 1.0])),
    "kept many times": lambda: computing(
        [node("ConstantOfShape", ["s"], ["c"]),
         *(node("Neg", ["c"], [f"n{at}"]) for at in range(100))], s=np.array([2**24])),
    "many nodes": lambda: graph_of(
        [node("Relu", ["x" if at == 0 else f"a{at - 1}"], ["y" if at == 20_000 else f"a{at}"])
         for at in range(20_001)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROWING)
def test_constants_alone_make_nothing_large(kind: str, tmp_path: Path) -> None:
    refused(written(tmp_path, GROWING[kind]()), check_inside)


def test_a_table_of_positions_that_every_layer_multiplies(tmp_path: Path) -> None:
    """What DeBERTa leaves of constants alone: twice in each of 24 layers, of 1024 channels."""
    made = [
        node("LayerNormalization", ["table", "ones", "ones"], ["normal"], axis=-1),
        node("Unsqueeze", ["normal", "first"], ["stack"]),
    ]
    for at in range(48):
        made += [
            node("MatMul", ["stack", "weight"], [f"a{at}"]),
            node("Add", [f"a{at}", "ones"], [f"b{at}"]),
            node("Reshape", [f"b{at}", "heads"], [f"c{at}"], allowzero=1),
            node("Transpose", [f"c{at}"], [f"d{at}"], perm=[0, 2, 1, 3]),
            node("Reshape", [f"d{at}", "folded"], [f"e{at}"], allowzero=1),
            node("Expand", [f"e{at}", "folded"], [f"f{at}"]),
        ]
    constants = {
        "table": np.ones((512, 1024), np.float32),
        "weight": np.ones((1024, 1024), np.float32),
        "ones": np.ones(1024, np.float32),
        "first": np.array([0]),
        "heads": np.array([1, 512, 16, 64]),
        "folded": np.array([16, 512, 64]),
    }
    check_inside(written(tmp_path, graph_of([*made, node("Relu", ["x"], ["y"])], constants)))


def test_axes_without_end_are_not_followed(tmp_path: Path) -> None:
    made = [
        node("Unsqueeze", ["w" if at == 0 else f"c{at - 1}", "a"], [f"c{at}"]) for at in range(5000)
    ]
    made += [node("Gather", [f"c{4999 + at}"] * 2, [f"c{5000 + at}"]) for at in range(40)]
    path = written(tmp_path, computing([*made, node("Identity", ["c5039"], ["c"])],
                                       a=np.arange(60)))  # fmt: skip
    refused(path, check_inside)
