"""What the rules of targets for quantized graphs share: broken ones, walks around Q/DQ pairs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from qdeploy.errors import QDeployWarning
from qdeploy.graph.constants import constant
from qdeploy.graph.sites import SHAPE_OPERATORS
from qdeploy.schemas.inspection import FoundViolation

ERROR, ADVICE = "error", "advice"
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
PRODUCTS = ("MatMul", "Gemm", "Conv")
# They move elements and leave them as they are.
_SAME = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")  # still a weight
TRANSPARENT = (SHAPE_OPERATORS - {"Cast"}) | {"Concat", "Expand", "Gather", "Slice", "Split"}


@dataclass(frozen=True)
class BrokenRule:
    """One place where a graph breaks a rule.

    Attributes:
        rule: short name of the rule.
        severity: "error" or "advice".
        node: name of the node.
        text: what is wrong there.
        remedy: what to do.
    """

    rule: str
    severity: str
    node: str
    text: str
    remedy: str

    def to_json(self) -> FoundViolation:
        """For reports."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "node": self.node,
            "text": self.text,
            "remedy": self.remedy,
        }


def prepared(model: ir.Model) -> ir.Model:
    """A copy with functions inlined, constants as initializers, and the types that follow."""
    copy = model.clone()
    walk = ir.traversal.RecursiveGraphIterator
    for written, cloned in zip(walk(model.graph), walk(copy.graph), strict=True):
        cloned.name = label(written)
    InlinePass()(copy)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    try:
        ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    except Exception as error:  # what ONNX itself cannot follow is judged by what is written
        text = f"Not all types of the graph can be inferred: {error}"
        warnings.warn(text, QDeployWarning, stacklevel=3)
    return copy


def label(node: ir.Node) -> str:
    """A node's name; where it has none, its operator and what it computes."""
    return node.name or f"{node.op_type} of {', '.join(str(v.name) for v in node.outputs)}"


def readers(value: ir.Value) -> Iterator[ir.Node]:
    """Nodes that read a value, behind those that only move its elements."""
    for use in value.uses():
        if use.node.op_type in TRANSPARENT:
            for moved in use.node.outputs:
                yield from readers(moved)
        else:
            yield use.node


def of_weight(node: ir.Node) -> bool:
    """Whether a Q or DQ is that of a constant."""
    value = node.inputs[0]
    before = None if value is None else value.producer()
    if constant(value) is not None:
        return True
    return before is not None and before.op_type in (QUANTIZE, *_SAME) and of_weight(before)


def source_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is a quantized or moved form of."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in (QUANTIZE, DEQUANTIZE, *_SAME):
            break
        value = node.inputs[0]
    return value


def dequantized(value: ir.Value | None) -> bool:
    """Whether a value is what a DequantizeLinear gives, moved perhaps."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == DEQUANTIZE:
            return True
        if node.op_type not in TRANSPARENT:
            return False
        value = node.inputs[0]
    return False


def output_axis(reader: ir.Node, index: int, rank: int | None) -> int | None:
    """The axis of a weight that runs over output channels; None where it is no weight."""
    if reader.op_type == "Conv" and index == 1:
        return 0
    if reader.op_type == "MatMul" and index == 1:
        return -1
    if reader.op_type == "Gemm" and index == 1:
        return 0 if reader.attributes.get_int("transB", 0) else 1
    if reader.op_type == "Transpose":
        for use in reader.outputs[0].uses():
            if use.node.op_type == "MatMul" and use.idx == 1 and rank == 2:
                return 0
    return None


def rank_of(value: ir.Value | None) -> int | None:
    """Number of axes, where it is known."""
    if value is None:
        return None
    array = constant(value)
    if array is not None:
        return int(array.ndim)
    before = value.producer()
    if value.shape is None and before is not None and before.op_type == QUANTIZE:
        return rank_of(before.inputs[0])
    return None if value.shape is None else len(value.shape)


def code_type(node: ir.Node) -> ir.DataType:
    """The type of the codes that a Q writes or a DQ reads; uint8 where nothing says it."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero = constant(node.inputs[2])
        known = node.inputs[2].dtype or (None if zero is None else ir.tensor(zero).dtype)
        if known is not None:
            return known
    if node.op_type == QUANTIZE:
        return ir.DataType(node.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)
    value = node.inputs[0]
    array = constant(value)
    if array is not None:
        return ir.tensor(array).dtype if value is None or value.dtype is None else value.dtype
    before = None if value is None else value.producer()
    if before is not None and before.op_type == QUANTIZE:
        return code_type(before)
    return ir.DataType.UINT8 if value is None or value.dtype is None else value.dtype
