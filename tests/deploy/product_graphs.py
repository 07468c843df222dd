"""Small graphs with products of many forms, and a brute-force count of their work.

The count runs the graph in ONNX's reference evaluator, twice, on inputs with other numbers: an
operand that is the same in both runs is constant. Operations are counted from the arrays that meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import Conv as ReferenceConv

Array = npt.NDArray[Any]
BATCH, TOKENS = 2, 3
FORMS = ("plain", "transposed", "reshaped", "half", "identity", "int8", "constant node")
OPERATORS = ("MatMul", "left MatMul", "Gemm", "Conv", "Einsum", "MatMulInteger")
PLACES = ("graph", "if", "constant if", "loop", "function")


@dataclass
class Layer:
    """One product: its operator, the form of its weight, where it stands, and which weight."""

    operator: str
    form: str
    place: str
    weight: int


@dataclass
class _Graph:
    """Nodes and initializers of a graph or of a body."""

    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.prefix}{operator}{len(self.nodes)}"
        node = helper.make_node(operator, [*inputs], [f"{name}.out"], name, **attributes)
        self.nodes.append(node)
        return f"{name}.out"

    def constant(self, name: str, array: Array) -> str:
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name


def model_of(layers: Sequence[Layer], hidden: int) -> onnx.ModelProto:
    """x FP32 [B, S, hidden] through the layers, each hidden → hidden."""
    graph = _Graph()
    functions = []
    value = "x"
    for index, layer in enumerate(layers):
        body = _Graph(prefix=f"layer{index}.")
        stored = np.random.default_rng(layer.weight)
        weight = (stored.normal(size=(hidden, hidden)) / hidden**0.5).astype(np.float32)
        if layer.place == "graph":
            body = graph
            body.prefix = f"layer{index}."
            value = _product(body, layer, value, weight)
            continue
        if layer.place == "function":
            result = _product(body, layer, "a", weight)
            names = sorted(body.initializers)
            constants = [
                helper.make_node("Constant", [], [n], f"{n}/constant", value=body.initializers[n])
                for n in names
            ]
            functions.append(
                helper.make_function(
                    "local",
                    f"layer{index}",
                    ["a"],
                    [result],
                    [*constants, *body.nodes],
                    [helper.make_opsetid("", 20)],
                )
            )
            value = graph.op(f"layer{index}", value, domain="local")
            continue
        value = _in_body(graph, body, layer, value, weight, index)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", hidden])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    whole = helper.make_graph(graph.nodes, "g", [x], [y], [*graph.initializers.values()])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    return helper.make_model(whole, functions=functions, opset_imports=opsets, ir_version=10)


def _in_body(
    graph: _Graph, body: _Graph, layer: Layer, value: str, weight: Array, index: int
) -> str:
    if layer.place == "loop":
        inner = _product(body, layer, f"state{index}", weight)
        kept = body.op("Identity", f"go{index}")
        loop = helper.make_graph(
            body.nodes,
            "body",
            [
                helper.make_tensor_value_info(f"at{index}", TensorProto.INT64, []),
                helper.make_tensor_value_info(f"go{index}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"state{index}", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(kept, TensorProto.BOOL, []),
                helper.make_tensor_value_info(inner, TensorProto.FLOAT, None),
            ],
            [*body.initializers.values()],
        )
        times = graph.constant(f"times{index}", np.array(3, np.int64))
        start = graph.constant(f"start{index}", np.array(True))
        return graph.op("Loop", times, start, value, body=loop)
    taken = _product(body, layer, value, weight)
    branch = helper.make_graph(
        body.nodes,
        "taken",
        [],
        [helper.make_tensor_value_info(taken, TensorProto.FLOAT, None)],
        [*body.initializers.values()],
    )
    other = _Graph(prefix=f"other{index}.")
    kept = other.op("Identity", value)
    left = helper.make_graph(
        other.nodes, "left", [], [helper.make_tensor_value_info(kept, TensorProto.FLOAT, None)]
    )
    if layer.place == "constant if":
        condition = graph.constant(f"always{index}", np.array(True))
    else:  # of the numbers, and true for all that the tests feed
        total = graph.op("ReduceMax", value, keepdims=0)
        condition = graph.op(
            "Greater", total, graph.constant(f"low{index}", np.array(-1e30, np.float32))
        )
    return graph.op("If", condition, then_branch=branch, else_branch=left)


def _product(graph: _Graph, layer: Layer, value: str, weight: Array) -> str:
    if layer.operator == "MatMulInteger":
        scale = graph.constant(f"{graph.prefix}step", np.array(0.05, np.float32))
        zero = graph.constant(f"{graph.prefix}zero", np.array(128, np.uint8))
        codes = graph.op("QuantizeLinear", value, scale, zero)
        stored = graph.constant(f"{graph.prefix}codes", np.rint(weight * 40).astype(np.int8))
        sums = graph.op("MatMulInteger", codes, stored, zero)
        floats = graph.op("Cast", sums, to=TensorProto.FLOAT)
        return graph.op(
            "Mul", floats, graph.constant(f"{graph.prefix}scale", np.array(1e-3, np.float32))
        )
    stored = _weight(graph, layer, weight)
    if layer.operator == "MatMul":
        return graph.op("MatMul", value, stored)
    if layer.operator == "left MatMul":
        turned = graph.op("Transpose", value, perm=[0, 2, 1])
        return graph.op("Transpose", graph.op("MatMul", stored, turned), perm=[0, 2, 1])
    if layer.operator == "Einsum":
        return graph.op("Einsum", value, stored, equation="bsk,kn->bsn")
    hidden = len(weight)
    if layer.operator == "Conv":
        kernel = graph.constant(f"{graph.prefix}kernel", np.array([hidden, hidden, 1], np.int64))
        turned = graph.op("Transpose", value, perm=[0, 2, 1])
        conv = graph.op("Conv", turned, graph.op("Reshape", stored, kernel))
        return graph.op("Transpose", conv, perm=[0, 2, 1])
    flat = graph.constant(f"{graph.prefix}flat", np.array([-1, hidden], np.int64))
    back = graph.constant(f"{graph.prefix}back", np.array([BATCH, -1, hidden], np.int64))
    rows = graph.op("Gemm", graph.op("Reshape", value, flat), stored, transB=1)
    return graph.op("Reshape", rows, back)


def _weight(graph: _Graph, layer: Layer, weight: Array) -> str:
    """The weight [hidden, hidden] in a form; layers of the same form and number share it."""
    name = f"weight{layer.weight}.{layer.form}"
    if graph.prefix and layer.place != "graph":
        name = f"{graph.prefix}{name}"
    if layer.form == "plain":
        return graph.constant(name, weight)
    if layer.form == "transposed":
        return graph.op("Transpose", graph.constant(name, weight.T.copy()), perm=[1, 0])
    if layer.form == "reshaped":
        shape = graph.constant(f"{name}.shape", np.array(weight.shape, np.int64))
        return graph.op("Reshape", graph.constant(name, weight.reshape(-1)), shape)
    if layer.form == "half":
        return graph.op("Cast", graph.constant(name, weight.astype(np.float16)), to=1)
    if layer.form == "identity":
        return graph.op("Identity", graph.constant(name, weight))
    if layer.form == "constant node":
        return graph.op("Constant", value=numpy_helper.from_array(weight))
    scales = graph.constant(f"{name}.scales", np.full(len(weight), 0.02, np.float32))
    codes = graph.constant(name, np.rint(weight * 40).astype(np.int8))
    return graph.op("DequantizeLinear", codes, scales, axis=1)


def brute_force(model: onnx.ModelProto, hidden: int) -> int:
    """Operations of all products with a constant operand."""
    runs = []
    model = inline_local_functions(model)
    for seed in (1, 2):
        x = np.random.default_rng(seed).normal(size=(BATCH, TOKENS, hidden)).astype(np.float32)
        seen: list[tuple[int, Array, Array]] = []
        ReferenceEvaluator(model, new_ops=[*_counting(seen)]).run(None, {"x": x})
        runs.append(seen)
    total = 0
    for (work, a, b), (_, other_a, other_b) in zip(*runs, strict=True):
        constants = [np.array_equal(a, other_a), np.array_equal(b, other_b)]
        total += work if sum(constants) == 1 else 0
    return total


def _counting(seen: list[tuple[int, Array, Array]]) -> Iterator[type[OpRun]]:
    """Operators of the reference evaluator that note what they multiply."""

    def noted(name: str, work: Callable[..., int], compute: Callable[..., Array]) -> type[OpRun]:
        def run(self: Any, a: Array, b: Array, *others: Any, **attributes: Any) -> tuple[Array]:
            seen.append((work(a, b), a, b))
            return (compute(a, b, *others, **attributes),)

        return type(name, (OpRun,), {"op_domain": "", "_run": run})

    def matrix(a: Array, b: Array) -> int:
        return (
            2
            * int(np.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])))
            * (a.shape[-2] * a.shape[-1] * b.shape[-1])
        )

    yield noted("MatMul", matrix, lambda a, b: a @ b)
    yield noted("Gemm", lambda a, b: 2 * a.size * len(b), lambda a, b, *_, **__: a @ b.T)
    yield noted(
        "Einsum",
        lambda a, b: 2 * a.size * b.shape[1],
        lambda a, b, equation: np.einsum(equation, a, b),
    )
    yield noted(
        "MatMulInteger",
        matrix,
        lambda a, b, zero, *_: (a.astype(np.int32) - int(zero)) @ b.astype(np.int32),
    )

    class Conv(ReferenceConv):
        op_domain = ""

        def _run(self, *operands: Any, **attributes: Any) -> Any:
            a, b = operands[:2]
            seen.append((2 * a.shape[0] * a.shape[2] * b.size, a, b))
            return super()._run(*operands, **attributes)

    yield Conv
