"""Gelu as one operator, where an exporter wrote it out, in whichever order.

x/2 · (1 + erf(x/√2)), its tanh form, and the same with the factors in other places (Hendrycks and
Gimpel 2016, arXiv 1606.08415). They are recognised by what they compute: the operators around an
Erf or a Tanh that read one tensor and numbers are a function of one number, which is tabulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard, readers
from qdeploy.types import Array

_POINTS = np.linspace(-6, 6, 97)
# Constants of FP32, and those of files that were in FP16, which round at 2⁻¹¹. The two forms of
# Gelu differ by 5e-4, and are told apart by their operators.
_NEAR, _NEAR_HALVED = 1e-5, 2e-3
_ERF = np.vectorize(math.erf, otypes=[np.float64])
_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Erf": _ERF,
    "Tanh": np.tanh,
}
_MOST = 12  # operators of a Gelu that is written out


def _exact(x: Array) -> Array:
    found: Array = 0.5 * x * (1 + _ERF(x / math.sqrt(2)))
    return found


def _by_tanh(x: Array) -> Array:
    found: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return found


_FORMS = {"Erf": ("none", _exact), "Tanh": ("tanh", _by_tanh)}


def fuse_gelus(model: ir.Model, *, halved: bool = False) -> int:
    """Fuse every Gelu that is written out, in place.

    1. Assumes nothing of the graph.
    2. Recognizes operators around an Erf or a Tanh that compute a Gelu of one tensor.
    3. Guarantees the same function, to the rounding of its constants.
    4. Leaves functions of another form.

    Args:
        model: canonical but for this.
        halved: its constants were in FP16 or BF16.

    Returns:
        How many were fused.
    """
    edit, count = Edit(model), 0
    for node in [n for n in model.graph if is_standard(n, *_FORMS)]:
        approximate, function = _FORMS[node.op_type]
        found = _find(node, function, _NEAR_HALVED if halved else _NEAR)
        if found is None:
            continue
        source, output = found
        new = edit.add("Gelu", [source], output.producer(), approximate=approximate)
        new.shape, new.type = output.shape, output.type
        edit.replace(output, new)
        count += 1
    edit.finish()
    return count


def _find(
    node: ir.Node, function: Callable[[Array], Array], near: float
) -> tuple[ir.Value, ir.Value] | None:
    """The tensor that a Gelu reads, and its result."""
    for source in _sources(node):
        known: dict[ir.Value, Array | None] = {source: _POINTS}
        value: ir.Value | None = node.outputs[0]
        for _ in range(_MOST):
            if value is None:
                break
            table = _table(value, known)
            if table is not None and np.abs(table - function(_POINTS)).max() < near:
                return source, value
            value = _next(value, source)
    return None


def _sources(node: ir.Node) -> list[ir.Value]:
    """Tensors that everything in front of a node comes from, the nearest first."""
    found, front = list[ir.Value](), [v for v in node.inputs if v is not None]
    seen = 0
    while len(set(front)) >= 1 and seen < _MOST:
        front = [v for v in dict.fromkeys(front) if array_of(v) is None]
        if len(front) == 1:
            found.append(front[0])
        # the latest first: what is read by others of the front is in front of them
        opened = next((v for v in front if _opens(v)), None)
        if opened is None:
            break
        producer = opened.producer()
        assert producer is not None
        front = [v for v in front if v is not opened]
        front += [v for v in producer.inputs if v is not None]
        seen += 1
    return found


def _opens(value: ir.Value) -> bool:
    """Whether a value is made of numbers and one tensor, or of two of the same."""
    node = value.producer()
    if node is None or not is_standard(node, *_FUNCTIONS):
        return False
    read = [v for v in node.inputs if v is not None]
    numbers = [a for v in read if (a := array_of(v)) is not None]
    return all(array.size == 1 for array in numbers)


def _table(value: ir.Value, known: dict[ir.Value, Array | None]) -> Array | None:
    """A value at `_POINTS` of the source; None where it is no function of that alone."""
    if value in known:
        return known[value]
    known[value] = None  # while it is looked at, and where nothing is found
    array, node = array_of(value), value.producer()
    if array is not None:
        known[value] = array.astype(np.float64).reshape(()) if array.size == 1 else None
    elif node is not None and is_standard(node, *_FUNCTIONS) and len(known) < 4 * _MOST:
        tables = [None if v is None else _table(v, known) for v in node.inputs]
        given = [table for table in tables if table is not None]
        if len(given) == len(tables):
            with np.errstate(all="ignore"):
                known[value] = _FUNCTIONS[node.op_type](*given)
    return known[value]


def _next(value: ir.Value, source: ir.Value) -> ir.Value | None:
    """The output of the only node that reads a value."""
    found = readers(value)
    if len(found) != 1 or value.is_graph_output() or value is source:
        return None
    node = found[0]
    return node.outputs[0] if is_standard(node, *_FUNCTIONS) else None
