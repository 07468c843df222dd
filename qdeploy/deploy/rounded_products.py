"""How the INT8 products of a quantized file round: their weights, inputs and outputs, as numbers.

Q/DQ pairs, operators with 8-bit operands (QLinearMatMul, QGemm), and ranges that are found at run
time (DynamicQuantizeLinear) all say the same three things in other words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.certify_file import why_unplanned
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.graph.constants import constant
from qdeploy.graph.products import Product, find_products
from qdeploy.types import Array

_LAYOUT = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Cast")
_BEHIND = ("Cast", "Identity", "Reshape")  # between integer sums and their scale
_DYNAMIC = "DynamicQuantizeLinear"
_STEPS = 4  # nodes between an integer product and the Mul that scales it
# Inputs that hold scale and zero point of the input, scale of the weight, scale and zero point of
# the output, by operator; None where the operator has none.
_OPERANDS: dict[str, tuple[int | None, int | None, int | None, int | None, int | None]] = {
    "QLinearMatMul": (1, 2, 4, 6, 7),
    "QGemm": (1, 2, 4, 7, 8),
    "MatMulIntegerToFloat": (None, None, 3, None, None),
    "DynamicQuantizeMatMul": (None, None, 2, None, None),
    "MatMulInteger": (None, None, None, None, None),
    "MatMul": (None, None, None, None, None),
    "Gemm": (None, None, None, None, None),
}


@dataclass(frozen=True)
class Rounding:
    """To 8 bits and back, with one scale and zero point of the whole tensor.

    Attributes:
        scale, zero_point: float32 [] and int8 or uint8 []; None where they are found at run time.
    """

    scale: Array | None = None
    zero_point: Array | None = None


@dataclass(frozen=True)
class RoundedProduct:
    """An INT8 product of a file.

    Attributes:
        name: of its node.
        weight: what its codes stand for, float32 [K, N].
        steps: between two codes, float32 [N].
        source: how its input is rounded; None where it is not.
        result: how its output is rounded before anything else reads it; None where it is not.
    """

    name: str
    weight: Array
    steps: Array
    source: Rounding | None
    result: Rounding | None


class NotUnderstood(Exception):
    """A product that this module cannot put into numbers; its text is the reason, as a clause."""


def rounded_products(model: ir.Model) -> Iterator[RoundedProduct | tuple[str, str]]:
    """The INT8 products of a file, in order; (name, reason) of one that is not understood.

    Args:
        model: nodes with names of their own (`product_flops.prepare`).
    """
    for product in find_products(model):
        if why_unplanned(product, weight_of(product)):
            continue
        try:
            yield _rounded(product)
        except NotUnderstood as reason:
            yield product.name, str(reason)


def matrix_of(product: Product, array: Array) -> Array:
    """A stored weight as it is multiplied, [K, N].

    Raises:
        NotUnderstood: what stands between the two is no transposition.
    """
    node, at = product.node, product.constants[0]
    turns: list[list[int]] = []
    value = node.inputs[at]
    while value is not None and constant(value) is None:
        producer = value.producer()
        if producer is None or producer.op_type == "DequantizeLinear":
            break
        if producer.op_type == "Transpose":
            turns.append(list(producer.attributes.get_ints("perm", ())))
        elif producer.op_type not in ("Identity", "Cast"):
            raise NotUnderstood(f"its weight passes {producer.op_type} first")
        value = producer.inputs[0]
    for perm in reversed(turns):
        array = np.transpose(array, perm or None)
    if node.attributes.get_int("transB", 0) == 1:
        array = array.T
    if array.ndim != 2:
        raise NotUnderstood(f"its weight has {array.ndim} axes, and two are understood")
    return array


def _rounded(product: Product) -> RoundedProduct:
    node = product.node
    if node.op_type not in _OPERANDS or node.attributes.get_int("transA", 0) == 1:
        raise NotUnderstood(f"{node.op_type} multiplies several things at once")
    at = next(at for at in product.operands if at not in product.constants)
    if at != 0 or len(product.constants) != 1:
        raise NotUnderstood("its weight stands on the left")
    scale_at, zero_at, weight_at, out_scale, out_zero = _OPERANDS[node.op_type]
    weight = weight_of(product)
    assert weight is not None  # else it is not planned
    if weight.blocks:
        raise NotUnderstood("its weight has a scale per block")
    scale = weight.scale if weight_at is None else constant(node.inputs[weight_at])
    if node.op_type == "MatMulInteger":
        scale = _scale_behind(node)
    if scale is None:
        raise NotUnderstood("the scale of its weight is not a constant beside it")
    if scale_at is not None:
        source: Rounding | None = _static(node.inputs[scale_at], _at(node, zero_at))
    else:
        source = _source(node.inputs[0])
    if out_scale is not None:
        result: Rounding | None = _static(node.inputs[out_scale], _at(node, out_zero))
    else:
        result = _result(node)
    scale = np.asarray(scale)
    numbers = matrix_of(product, weight.floats(scale))
    steps = matrix_of(product, weight.steps(scale)).max(axis=0)
    return RoundedProduct(product.name, numbers, steps, source, result)


def _at(node: ir.Node, at: int | None) -> ir.Value | None:
    return node.inputs[at] if at is not None and at < len(node.inputs) else None


def _static(scale: ir.Value | None, zero: ir.Value | None) -> Rounding:
    step, point = constant(scale), constant(zero)
    if step is None:
        raise NotUnderstood("a scale of it is computed")
    if step.size != 1:
        raise NotUnderstood(f"its input has {step.size} scales, and one is understood")
    point = np.zeros((), np.uint8) if point is None else point
    if point.dtype not in (np.int8, np.uint8):
        raise NotUnderstood("its input is not rounded to 8 bits")
    return Rounding(step.astype(np.float32).reshape(()), point.reshape(()))


def _source(value: ir.Value | None) -> Rounding | None:
    """How the input of a product is rounded: by the pair in front of it, or by what gives codes."""
    while value is not None:
        node = value.producer()
        if node is None:
            return None
        if node.op_type == _DYNAMIC:
            return Rounding()
        if node.op_type == "QuantizeLinear":
            return _static(node.inputs[1], _at(node, 2))
        if node.op_type == "DequantizeLinear":
            codes = node.inputs[0].producer() if node.inputs[0] is not None else None
            if codes is not None and codes.op_type == _DYNAMIC:
                return Rounding()
            return _static(node.inputs[1], _at(node, 2))
        if node.op_type not in _LAYOUT:
            return Rounding() if _is_dynamic_kernel(value) else None
        value = node.inputs[0]
    return None


def _is_dynamic_kernel(value: ir.Value) -> bool:
    """Whether what reads a float rounds it by itself."""
    return any(use.node.op_type == "DynamicQuantizeMatMul" for use in value.uses())


def _result(node: ir.Node) -> Rounding | None:
    """The rounding behind a product, where nothing else reads what it computes."""
    readers = [use.node for use in node.outputs[0].uses()]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return None
    return _static(readers[0].inputs[1], _at(readers[0], 2))


def _scale_behind(node: ir.Node) -> Array | None:
    """The constant scale of an integer product's weight: Cast, then Mul by (input's · weight's)."""
    value = node.outputs[0]
    for _ in range(_STEPS):
        readers = [use.node for use in value.uses()]
        if len(readers) != 1:
            return None
        (reader,) = readers
        if reader.op_type == "Mul":
            return _factor(next((v for v in reader.inputs if v is not value), None))
        if reader.op_type not in _BEHIND:
            return None
        value = reader.outputs[0]
    return None


def _factor(value: ir.Value | None) -> Array | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Mul":
        return constant(value)
    found = [array for array in map(constant, node.inputs) if array is not None]
    return found[0] if len(found) == 1 else None
