"""Products around which every pair stands, and what the compiler makes of them all the same.

Each form was seen in TensorRT-RTX 1.7.1 (`tests/deploy/test_rules_against_compiler.py` compiles
them). Forms that it multiplies in float are advice, those that it refuses are errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from qdeploy.deploy.rules import (
    ADVICE,
    DEQUANTIZE,
    ERROR,
    PRODUCTS,
    TRANSPARENT,
    BrokenRule,
    code_type,
    label,
)
from qdeploy.graph.constants import constant, constant_tensor

# They leave a product in INT8 when they stand between a DequantizeLinear and the product.
_MOVES = (TRANSPARENT - {"Concat"}) | {"Cast", "Dropout"}
_FLOAT8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)
_CUTS = ("Gather", "Slice", "Split")
_PARTS = 3  # query, key and value; products of two parts, or of unequal ones, stay in INT8
_OPEN = 2**31 - 1  # from here on, an end is that of the axis


def forms(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    """What keeps a product out of INT8, or out of an engine."""
    del opset
    if node.op_type not in PRODUCTS or len(node.inputs) < 2:
        return
    fixed = [_fixed(value) for value in node.inputs[:2]]
    if all(fixed):  # computed when the engine is built
        return
    pairs = [_pairs(value) for value in node.inputs[:2]]
    if not any(fixed):
        yield from _attention(node, pairs)
        return
    at = fixed.index(True)
    activation = pairs[1 - at]
    changed = "" if pairs[at] else _changed(node.inputs[at])
    if changed and (activation or changed == "Concat"):
        yield _computed_weight(node, changed)
    elif bool(activation) != bool(pairs[at]):
        yield _half(node, "weight" if activation else "activation")
    elif activation:
        yield from _whole(node, activation, pairs[at][0])


def _attention(node: ir.Node, pairs: Sequence[Sequence[ir.Node]]) -> Iterator[BrokenRule]:
    """A product of two activations; with one pair it is in float, with two in INT8."""
    if any(pairs):
        yield BrokenRule(
            "attention",
            ADVICE,
            label(node),
            "an attention product reads quantized tensors, which keeps it out of the fused FP16 "
            "attention kernel unless all three places are quantized",
            "leave the attention products in float",
        )


def _half(node: ir.Node, which: str) -> BrokenRule:
    text = f"its {which} is not quantized, so it runs in float"
    remedy = f"quantize its {which} too, or take the other pair away"
    return BrokenRule("both-inputs", ADVICE, label(node), text, remedy)


def _computed_weight(node: ir.Node, changed: str) -> BrokenRule:
    """A weight that something changes between its DequantizeLinear and the product.

    A Concat of stored weights ends the build with an internal error, whatever the activation is;
    others cost INT8 alone.
    """
    severity, end = (ERROR, "is refused") if changed == "Concat" else (ADVICE, "runs in float")
    return BrokenRule(
        "computed-weight",
        severity,
        label(node),
        f"{changed} stands between its weight and DequantizeLinear, so it {end}",
        "compute the weight before, and quantize the result",
    )


def _whole(node: ir.Node, read: Sequence[ir.Node], weight: ir.Node) -> Iterator[BrokenRule]:
    """Both are quantized.

    Args:
        read: every DequantizeLinear that the activation is made of.
        weight: that of the weight.
    """
    kinds = {code_type(one) in _FLOAT8 for one in (read[0], weight)}
    if len(kinds) > 1:
        text = "one input is FP8 and the other is not"
        yield BrokenRule("one-code", ERROR, label(node), text, "quantize both to one type")
    types = {one.inputs[1].dtype for one in (read[0], weight) if one.inputs[1] is not None}
    # where the inputs themselves differ, `one-type` says so
    if len(types) > 1 and len({value.dtype for value in node.inputs[:2] if value}) == 1:
        yield BrokenRule(
            "scale-types",
            ERROR,
            label(node),
            "the scales of its two inputs have different types, with a Cast behind one",
            "give both scales one type, and cast before QuantizeLinear or behind the product",
        )
    scales = {_bytes(one.inputs[1]) for one in read}
    if len(scales) > 1:
        yield BrokenRule(
            "joined-scales",
            ADVICE,
            label(node),
            "it reads tensors of different scales, joined by Concat, so it runs in float",
            "give the tensors that are joined one scale, or quantize behind the Concat",
        )
    # A weight that is stored in float, behind QuantizeLinear too, was not moved behind the cut.
    stored, scale = (constant_tensor(value) for value in weight.inputs[:2])
    if stored is not None and scale is not None and scale.size > 1 and _cut_into_heads(node):
        yield BrokenRule(
            "joined-heads",
            ADVICE,
            label(node),
            "its output is cut into three parts that become heads; TensorRT-RTX 1.7.1 cuts before "
            "it multiplies, and multiplies in float",
            "write three products, each with its own columns of the weight; they are merged again",
        )


def _fixed(value: ir.Value | None) -> bool:
    """Whether a tensor depends on constants alone."""
    pending, met = [value], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in met or constant_tensor(value) is not None:
            continue
        met.add(value)
        node = value.producer()
        if node is None or not node.inputs:
            return False
        pending += node.inputs
    return True


def _pairs(value: ir.Value | None) -> list[ir.Node]:
    """Every DequantizeLinear that a tensor is moved or joined from; none where some is float."""
    found: list[ir.Node] = []
    pending, joined = [value], False
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None:
            return []
        if node.op_type == DEQUANTIZE:
            found.append(node)
        elif node.op_type == "Concat":
            joined |= _fixed(value)
            pending += node.inputs
        elif node.op_type in _MOVES and not (node.op_type == "Gather" and _fixed(value)):
            pending.append(node.inputs[0])
        elif (scaled := _scaled(node)) is not None:
            pending.append(scaled)
        else:
            return []
    # weights that are stored in float and rounded by a QuantizeLinear are joined in time
    if joined and any(constant_tensor(one.inputs[0]) is not None for one in found):
        return []
    return found


def _scaled(node: ir.Node) -> ir.Value | None:
    """What a number multiplies, or of a weight one per output channel: part of the scale then."""
    if node.op_type != "Mul":
        return None
    most = 1 if _fixed(node.outputs[0]) else 0  # axes of the factor
    for value, other in (node.inputs, node.inputs[::-1]):
        factor = constant_tensor(other)
        if factor is not None and (factor.size == 1 or len(factor.shape) <= most):
            return value
    return None


def _changed(value: ir.Value | None) -> str:
    """The operator that changes a weight behind its DequantizeLinear; empty where none does."""
    changed, pending, met = "", [value], set[ir.Node]()
    while pending:
        value = pending.pop()
        node = None if value is None else value.producer()
        if node is None or node in met:
            continue
        met.add(node)
        if node.op_type == DEQUANTIZE:
            return changed
        moved = node.op_type in _MOVES and node.op_type != "Gather"
        changed = changed or ("" if moved else node.op_type)
        pending += node.inputs
    return ""


def _cut_into_heads(node: ir.Node) -> bool:
    """Whether three equal parts of a product are cut apart and reshaped, in either order."""
    value, reshaped = node.outputs[0], False
    while not (cuts := [use.node for use in value.uses() if use.node.op_type in _CUTS]):
        readers = [use.node for use in value.uses()]
        if len(readers) != 1 or not _passes(readers[0]):
            return False
        reshaped |= readers[0].op_type == "Reshape"
        value = readers[0].outputs[0]
    parts = [part for cut in cuts for part in cut.outputs]
    lengths = {length for cut in cuts for length in _lengths(cut)}
    if len(parts) != _PARTS or len(lengths) > 1:
        return False
    return reshaped or all(any(u.node.op_type == "Reshape" for u in p.uses()) for p in parts)


def _passes(reader: ir.Node) -> bool:
    """A bias, or another form of the same tensor."""
    bias = reader.op_type == "Add" and any(map(_fixed, reader.inputs))
    return bias or reader.op_type in ("Cast", "Reshape", "Transpose")


def _lengths(cut: ir.Node) -> list[int]:
    """Elements of the parts along the axis that is cut; empty where they are equal or not told."""
    if cut.op_type == "Gather":
        return []
    numbers = [constant(value) for value in cut.inputs[1:3]]
    told = [[int(number) for number in one.flat] for one in numbers if one is not None]
    if cut.op_type == "Split":
        return told[0] if told else []
    if len(told) < 2 or len(told[0]) != 1 or not 0 <= told[1][0] < _OPEN:
        return []
    return [told[1][0] - told[0][0]]


def _bytes(value: ir.Value | None) -> bytes:
    array = constant(value)
    return b"" if array is None else array.tobytes()
