"""Small ONNX models with protobuf alone, for files that `onnx_ir` would not write."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[Path, Path, random.Random], None]  # (file, canary outside its folder, …)
_X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "s", 8])
_Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
OPSETS = [helper.make_opsetid(*pair) for pair in (("", 20), ("com.microsoft", 1), ("local", 1))]
WEIGHT = np.ones((8, 8), np.float32)


def graph_of(
    nodes: Iterable[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (_X,),
    **more: Any,
) -> onnx.ModelProto:
    """A model with the input x, the output y, and the weight w."""
    known = {"w": WEIGHT} | (constants or {})
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in known.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), [_Y], stored)
    return helper.make_model(graph, **({"opset_imports": OPSETS, "ir_version": 10} | more))


node = helper.make_node
PRODUCT = node("MatMul", ["x", "w"], ["y"], "gemm")


def made_by(build: Callable[[random.Random], onnx.ModelProto | bytes]) -> Make:
    def make(path: Path, canary: Path, rng: random.Random) -> None:
        made = build(rng)
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())

    return make


def int64(*values: int) -> Any:
    return np.array(values, np.int64)
