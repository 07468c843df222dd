"""What a graph makes of constants alone, before it sees any input: runtimes fold it when they load.

qdeploy folds constants itself, and leaves the dequantizing of weights. So bounds may be rough: a
product of numbers for what spreads or multiplies tensors, and no shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from qdeploy.onnx_rules import MAX_NUMBERS, constant_of, made_of, ordered, product
from qdeploy.onnx_structure import Graph, Node, Tensor, WireError

MAX_NODES = 20_000  # lowered encoders of 24 layers have some thousands
# Numbers that all nodes make of constants: some, and some times those that are stored.
_TIMES_STORED = 8
# Operators that give no more numbers than their first input has.
_FROM_FIRST = frozenset(
    [
        "Abs",
        "ArgMax",
        "ArgMin",
        "Cast",
        "Ceil",
        "Clip",
        "CumSum",
        "DequantizeLinear",
        "Erf",
        "Exp",
        "Flatten",
        "Floor",
        "Identity",
        "Log",
        "Neg",
        "Not",
        "QuantizeLinear",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sign",
        "Size",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Tanh",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ]
)
# Operators that spread their inputs along each other, at most all along all.
_SPREADING = frozenset(
    [
        "Add",
        "And",
        "Div",
        "Equal",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "MatMul",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "Pow",
        "Sub",
        "Where",
        "Xor",
    ]
)
# Operators whose inputs say how much they make.
_SAID: dict[str, Callable[[Sequence[int], int], int]] = {
    "ConstantOfShape": lambda sizes, said: said,
    "Range": lambda sizes, said: said,
    "RandomNormal": lambda sizes, said: said,
    "RandomUniform": lambda sizes, said: said,
    "Expand": lambda sizes, said: sizes[0] * said,
    "Tile": lambda sizes, said: sizes[0] * said,
    "OneHot": lambda sizes, said: sizes[0] * said,
}


def check_constants(graph: Graph) -> None:
    """Refuse what constants alone make large, or long to compute.

    Args:
        graph: of a file that keeps the rules of `onnx_rules`, without bodies and functions.

    Raises:
        WireError: it does.
    """
    if len(graph.nodes) > MAX_NODES:
        raise WireError(f"it has more than {MAX_NODES:,} nodes, and qdeploy writes fewer")
    known = {tensor.name: tensor for tensor in graph.initializers}
    sizes = {name: math.prod(tensor.dims) for name, tensor in known.items()}
    most = MAX_NUMBERS + _TIMES_STORED * sum(sizes.values())
    made = 0
    for node in ordered(graph, [set(node.inputs) for node in graph.nodes]):
        if any(name and name not in sizes for name in node.inputs):
            continue
        if node.op_type == "Constant" and node.outputs:
            known[node.outputs[0]] = tensor = constant_of(node)
            sizes[node.outputs[0]] = math.prod(tensor.dims)
            continue
        read = [sizes[name] for name in node.inputs if name]
        size = _made(node, read, known)
        if size > MAX_NUMBERS and size > max(read, default=0):
            raise WireError(f"{node.label()} makes more than {MAX_NUMBERS:,} numbers of constants")
        made += size * len(node.outputs)
        if made > most:
            raise WireError(f"{node.label()} and others compute too much of constants alone")
        sizes.update(dict.fromkeys(node.outputs, size))


def _made(node: Node, read: Sequence[int], known: Mapping[str, Tensor]) -> int:
    """Numbers of each output, at most."""
    kind = node.op_type
    if node.domain in ("", "ai.onnx") or kind in ("QuantizeLinear", "DequantizeLinear"):
        if kind in _FROM_FIRST and read:
            return read[0]
        if kind in _SPREADING:
            return product(read)
        if kind == "Concat":
            return sum(read)
        if kind in _SAID and (said := made_of(node, known)):
            return _SAID[kind](read, said)
    raise WireError(f"{node.label()} computes what qdeploy stores, of constants alone")
