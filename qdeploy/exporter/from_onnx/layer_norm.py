"""LayerNormalization as one operator, where an exporter wrote it out.

Below opset 17 there was none: torch writes (x − mean) / √(variance + ε) · weight + bias with nine
operators (Ba et al. 2016, arXiv 1607.06450).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard, number_of, only_reader
from qdeploy.types import Array

_LARGEST_EPSILON = 1e-2  # a larger number under the root is another function


def fuse_layer_norms(model: ir.Model) -> int:
    """Fuse normalizations over the last axis, in place.

    1. Assumes shapes on the values.
    2. Recognizes d / √(mean(d²) + ε) with d = x − mean(x), both means over the last axis, and what
       follows of a product with a vector and a sum with one.
    3. Guarantees the same function of x.
    4. Leaves normalizations of other axes.

    Returns:
        How many were fused.
    """
    edit, count = Edit(model), 0
    for node in list(model.graph):
        found = _normalized(node)
        if found is not None:
            _fuse(edit, node, found)
            count += 1
    edit.finish()
    return count


@dataclass(frozen=True)
class _Normalized:
    source: ir.Value
    epsilon: float


def _normalized(node: ir.Node) -> _Normalized | None:
    """What a Div normalizes, without weight and bias."""
    if not is_standard(node, "Div"):
        return None
    root = _made_by(node.inputs[1], "Sqrt")
    total = None if root is None else _made_by(root.inputs[0], "Add")
    centred = node.inputs[0]
    if total is None or centred is None:
        return None
    for variance, epsilon in (total.inputs, reversed(total.inputs)):
        small = number_of(epsilon)
        square = _mean_of(variance)
        if small is None or not 0 <= small < _LARGEST_EPSILON or square is None:
            continue
        deviation = _squared(square)
        source = None if deviation is None else _centred(deviation)
        if source is not None and _centred(centred) is source:
            return _Normalized(source, small)
    return None


def _made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and is_standard(node, *kinds) else None


def _mean_of(value: ir.Value | None) -> ir.Value | None:
    """x of a mean over its last axis, which stays."""
    node = _made_by(value, "ReduceMean")
    if node is None or node.inputs[0] is None or not node.attributes.get_int("keepdims", 1):
        return None
    axes = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    listed = node.attributes.get_ints("axes", ()) if axes is None else axes.reshape(-1).tolist()
    shape = node.inputs[0].shape
    last = {-1} if shape is None else {-1, len(shape) - 1}
    return node.inputs[0] if len(listed) == 1 and listed[0] in last else None


def _squared(value: ir.Value) -> ir.Value | None:
    node = _made_by(value, "Pow", "Mul")
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Pow":
        return node.inputs[0] if number_of(node.inputs[1]) == 2 else None
    return node.inputs[0] if node.inputs[0] is node.inputs[1] else None


def _centred(value: ir.Value) -> ir.Value | None:
    """x of x − mean(x)."""
    node = _made_by(value, "Sub")
    if node is None:
        return None
    return node.inputs[0] if _mean_of(node.inputs[1]) is node.inputs[0] else None


def _fuse(edit: Edit, node: ir.Node, found: _Normalized) -> None:
    output, channels = node.outputs[0], _channels(found.source)
    weight, output = _factor(output, "Mul", channels)
    bias, output = _factor(output, "Add", channels)
    if weight is None:
        size = channels if channels is not None else 1
        weight = edit.constant(f"{node.name}/weight", np.ones(size, np.float32))
    last = output.producer()
    new = edit.add(
        "LayerNormalization",
        [found.source, weight] if bias is None else [found.source, weight, bias],
        last,
        axis=-1,
        epsilon=found.epsilon,
        stash_type=1,
    )
    new.shape, new.type = output.shape, output.type
    edit.replace(output, new)


def _channels(value: ir.Value) -> int | None:
    size = None if value.shape is None else value.shape[-1]
    return size if isinstance(size, int) else None


def _factor(value: ir.Value, kind: str, channels: int | None) -> tuple[ir.Value | None, ir.Value]:
    """The vector of channels that the only reader of a value multiplies or adds, and its output."""
    node = only_reader(value)
    if node is None or not is_standard(node, kind):
        return None, value
    other = next((v for v in node.inputs if v is not value), None)
    array: Array | None = array_of(other)
    if array is None or array.ndim != 1 or array.size != channels:
        return None, value
    return other, node.outputs[0]
