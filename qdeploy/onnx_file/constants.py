"""What a graph makes of constants alone, before it sees any input: runtimes fold it when they load.

qdeploy folds small constants itself. What it leaves are dequantized weights, and what DeBERTa makes
of its table of positions in every layer; an operator that is in neither is not written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from qdeploy.onnx_file.rules import MAX_NUMBERS, constant_of, integers_at, made_of, ordered, product
from qdeploy.onnx_file.structure import Graph, Node, Tensor, WireError

MAX_NODES = 20_000  # lowered encoders of 24 layers have some thousands
# Numbers that all nodes make of constants: some, and some times those that are stored.
_TIMES_STORED = 8
MAX_WORK = 1 << 38  # multiplications of all products; 2^37 in 48 layers of DeBERTa
_UNARY = """
    Abs Cast Ceil Clip CumSum DequantizeLinear DynamicQuantizeLinear Erf Exp Floor Gelu Identity
    LayerNormalization Log Neg Not QuantizeLinear Reciprocal Relu Round ScatterElements ScatterND
    Sigmoid Sign Slice Softmax Split Sqrt Tanh Trilu
"""
_BINARY = "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Or Pow Sub Where"
_FEWER = "Flatten ReduceMax ReduceMean ReduceMin ReduceSum Shape Size Squeeze"
_LIKE_FIRST, _SPREADING, _NO_MORE = (frozenset(s.split()) for s in (_UNARY, _BINARY, _FEWER))
_MAX_RANK = 64
_OF_MICROSOFT = ("QuantizeLinear", "DequantizeLinear", "Gelu", "MatMulIntegerToFloat")
_PRODUCTS = ("MatMul", "MatMulInteger", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class _Bound:
    """At most so many numbers, in at most this shape (None: not followed)."""

    numbers: int
    shape: tuple[int, ...] | None = None


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
    bounds = {name: _stored(tensor) for name, tensor in known.items()}
    most = MAX_NUMBERS + _TIMES_STORED * sum(bound.numbers for bound in bounds.values())
    made = work = 0
    for node in ordered(graph, [set(node.inputs) for node in graph.nodes]):
        if any(name and name not in bounds for name in node.inputs):
            continue
        if node.op_type == "Constant" and node.outputs:
            known[node.outputs[0]] = tensor = constant_of(node)
            bounds[node.outputs[0]] = _stored(tensor)
            continue
        read = [bounds[name] for name in node.inputs if name]
        bound = _made(node, read, known)
        if bound.numbers > max(MAX_NUMBERS, *(one.numbers for one in read), 0):
            raise WireError(f"{node.label()} makes more than {MAX_NUMBERS:,} numbers of constants")
        made += bound.numbers * len(node.outputs)
        work += _work(node, read, bound)
        if made > most or work > MAX_WORK:
            raise WireError(f"{node.label()} and others compute too much of constants alone")
        bounds.update(dict.fromkeys(node.outputs, bound))


def _stored(tensor: Tensor) -> _Bound:
    return _shaped(tensor.dense or tensor.dims)


def _shaped(shape: Sequence[int]) -> _Bound:
    return _Bound(math.prod(shape), tuple(shape) if len(shape) <= _MAX_RANK else None)


def _made(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    """Bound of each output."""
    kind = node.op_type
    if node.domain in ("", "ai.onnx") or kind in _OF_MICROSOFT:
        if kind in _LIKE_FIRST and read:
            return read[0]
        if kind in _NO_MORE and read:
            return _Bound(read[0].numbers)
        if kind in _SPREADING and read:
            return _spread(read)
        if kind in _FORMS and read:
            return _FORMS[kind](node, read, known)
        if kind in ("RandomNormal", "RandomUniform", "Range") and (said := made_of(node, known)):
            return _Bound(said)
    raise WireError(f"{node.label()} makes of constants alone what qdeploy would have stored")


def _spread(read: Sequence[_Bound]) -> _Bound:
    """Tensors along each other."""
    shapes = [one.shape for one in read if one.numbers != 1 or one.shape is not None]
    if any(shape is None for shape in shapes):
        return _Bound(product(one.numbers for one in read))
    axes = zip_longest(*(reversed(shape) for shape in shapes if shape is not None), fillvalue=1)
    return _shaped([max(axis) for axis in axes][::-1])


def _expand(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    """Also of ConstantOfShape, whose only input is the shape."""
    wanted = integers_at(node, len(read) - 1, known)
    if not wanted:
        return _Bound(MAX_NUMBERS + 1)  # of a shape that is computed
    shape = _shaped([max(n, 1) for n in wanted])
    return _spread((read[0], shape)) if len(read) > 1 else shape


def _product(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    left, right = read[0].shape, read[1].shape if len(read) > 1 else None
    if left is None or right is None or min(len(left), len(right)) < 2:
        return _Bound(product(one.numbers for one in read))
    stacks = _spread((_shaped(left[:-2]), _shaped(right[:-2]))).shape or ()
    return _shaped([*stacks, left[-2], right[-1]])


def _work(node: Node, read: Sequence[_Bound], bound: _Bound) -> int:
    """Multiplications of a product."""
    if node.op_type not in _PRODUCTS:
        return 0
    first = read[0].shape
    return bound.numbers * (first[-1] if first and bound.shape else read[0].numbers)


def _reshape(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    wanted, numbers = integers_at(node, 1, known), read[0].numbers
    if not wanted or 0 in wanted or min(wanted) < -1 or wanted.count(-1) > 1:
        return _Bound(numbers)
    rest = max(math.prod(n for n in wanted if n > 0), 1)
    return _Bound(numbers, tuple(numbers // rest if n < 0 else min(n, numbers) for n in wanted))


def _transpose(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    shape = read[0].shape
    if shape is None:
        return read[0]
    order = node.integers.get("perm", list(range(len(shape)))[::-1])
    if sorted(order) != list(range(len(shape))):
        return _Bound(read[0].numbers)
    return _Bound(read[0].numbers, tuple(shape[at] for at in order))


def _unsqueeze(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    shape, axes = read[0].shape, integers_at(node, 1, known) or node.integers.get("axes", [])
    if shape is None or not axes:
        return _Bound(read[0].numbers)
    made, rank = list(shape), len(shape) + len(axes)
    if rank > _MAX_RANK:
        return _Bound(read[0].numbers)
    for axis in sorted(axis + rank if axis < 0 else axis for axis in axes):
        made.insert(axis, 1)
    return _Bound(read[0].numbers, tuple(made))


def _gather(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    data, places = read[0].shape, read[-1].shape
    (axis,) = node.integers.get("axis", [0])[:1] or [0]
    if not data or places is None or not -len(data) <= axis < len(data):
        return _Bound(product(one.numbers for one in read))
    axis %= len(data)
    return _shaped([*data[:axis], *places, *data[axis + 1 :]])


def _concat(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    return _Bound(sum(one.numbers for one in read))


def _tile(node: Node, read: Sequence[_Bound], known: Mapping[str, Tensor]) -> _Bound:
    repeats = integers_at(node, 1, known)
    return _Bound(product([read[0].numbers, *(repeats or [MAX_NUMBERS + 1])]))


_FORMS = {
    "ConstantOfShape": _expand,
    "Expand": _expand,
    **dict.fromkeys(_PRODUCTS, _product),
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "Concat": _concat,
    "Tile": _tile,
}
