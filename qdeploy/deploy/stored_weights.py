"""The numbers of a stored weight, however a graph writes them, and fingerprints to know them by.

Optimizers rename initializers, transpose them, shift uint8 to int8 with its zero point, and fold
dequantized ones into floats: what stays is the numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, quantize
from qdeploy.graph.constants import constant
from qdeploy.graph.products import Product
from qdeploy.types import Array

_LAYOUT = ("Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze")
# The input that holds the weight's zero point, by operator; the weight's own is the operand.
_ZERO_AT = {
    "MatMulInteger": 3,
    "QLinearMatMul": 5,
    "MatMulIntegerToFloat": 5,
    "DynamicQuantizeMatMul": 3,
    "QGemm": 5,
    "QAttention": 7,
    "ConvInteger": 3,
    "QLinearConv": 5,
}


@dataclass(frozen=True)
class StoredWeight:
    """A stored weight, with what restores its numbers.

    Attributes:
        codes: as stored, integers or floats.
        zero_point, scale: None where there is none; [N] along `axis`, or one per block.
        axis: of a vector of zero points or scales.
    """

    codes: Array
    zero_point: Array | None
    scale: Array | None
    axis: int

    @property
    def eight_bits(self) -> bool:
        """Whether it is stored as int8 or uint8."""
        return self.codes.dtype in (np.int8, np.uint8)

    @property
    def blocks(self) -> bool:
        """Whether it has a scale per block of numbers (opset 21)."""
        return self.scale is not None and self.scale.ndim == self.codes.ndim > 1

    def fingerprints(self) -> frozenset[bytes]:
        """Of the forms that it may take in an optimized graph: centred codes, and floats."""
        if self.codes.dtype.kind not in "iu":
            return frozenset({_fingerprint(self.codes)})
        whole = self._centred()
        found = {_fingerprint(whole)}
        if self.scale is not None:
            found.add(_fingerprint(self.floats(self.scale)))
        return frozenset(found)

    def floats(self, scale: Array | None = None) -> Array:
        """Its numbers, float32: the codes around their zero point, times a scale.

        Args:
            scale: where it is not stored beside the codes; None takes `self.scale`, or 1.
        """
        whole = self._centred().astype(np.float32)
        scale = self.scale if scale is None else scale
        if scale is None:
            return whole
        return whole * _along(scale.astype(np.float32), whole.shape, self.axis)

    def steps(self, scale: Array) -> Array:
        """The scale of each number, float32, in the shape of the codes."""
        step = _along(scale.astype(np.float32), self.codes.shape, self.axis)
        return np.broadcast_to(step, self.codes.shape)

    def _centred(self) -> Array:
        """The codes around their zero point, int32; floats as they are."""
        if self.codes.dtype.kind not in "iu":
            return self.codes
        whole: Array = self.codes.astype(np.int32)
        if self.zero_point is not None:
            whole = whole - _along(self.zero_point.astype(np.int32), whole.shape, self.axis)
        return whole


def weight_of(product: Product) -> StoredWeight | None:
    """The stored weight of a product; None where it is computed from several constants."""
    node = product.node
    if not product.constants:
        return None
    zero_at = _ZERO_AT.get(node.op_type)
    value = node.inputs[product.constants[0]]
    while value is not None and constant(value) is None:
        producer = value.producer()
        if producer is None:
            return None
        if producer.op_type == "DequantizeLinear":
            codes = _input(producer, 0)
            if codes is None:
                codes = _rounded(producer.inputs[0])
            if codes is None:
                return None
            axis = producer.attributes.get_int("axis", 1)
            return StoredWeight(codes, _input(producer, 2), _input(producer, 1), axis)
        if producer.op_type not in _LAYOUT:
            return None
        value = producer.inputs[0]
    array = constant(value)
    if array is None:
        return None
    if node.op_type == "MatMulNBits":  # [N, blocks, rows of a block], uint8 around 128
        return StoredWeight(array, np.array(128, np.uint8), None, 1)
    return StoredWeight(array, _input(node, zero_at), None, _columns(node))


def _rounded(value: ir.Value | None) -> Array | None:
    """Codes of a QuantizeLinear over constant floats, which runtimes compute once at load."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "QuantizeLinear":
        return None
    floats, scale, zero = (_input(node, at) for at in range(3))
    if floats is None or scale is None:
        return None
    zero = np.zeros((), np.uint8) if zero is None else zero
    if zero.dtype not in (np.int8, np.uint8):
        return None
    shift = MIDDLE if zero.dtype == np.int8 else 0  # `quantize` gives uint8
    axis = node.attributes.get_int("axis", 1)
    steps = _along(scale.astype(np.float32), floats.shape, axis)
    point = _along(zero.astype(np.int32) + shift, floats.shape, axis)
    result: Array = (quantize(floats, steps, point).astype(np.int32) - shift).astype(zero.dtype)
    return result


def _input(node: ir.Node, at: int | None) -> Array | None:
    """Numbers of an input, or None where it is absent or computed."""
    return constant(node.inputs[at]) if at is not None and at < len(node.inputs) else None


def _columns(node: ir.Node) -> int:
    """The axis of a product's weight that has an entry per output: the first where it is turned,
    and of a convolution."""
    turned = node.attributes.get_int("transB", 0) == 1
    return 0 if "Conv" in node.op_type or turned else 1


def _along(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A vector as it is broadcast along an axis, a scalar as it is, blocks at their full size."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == len(shape) > 1:  # one entry per block of numbers (opset 21)
        for at, size in enumerate(shape):
            values = np.repeat(values, -(-size // values.shape[at]), axis=at).take(
                range(size), axis=at
            )
        return values
    wide = [1] * len(shape)
    wide[axis] = values.size
    return values.reshape(wide)


def _fingerprint(array: Array) -> bytes:
    """Of an array's numbers in any order, so that a transposed copy has the same."""
    flat = np.sort(np.ascontiguousarray(array).ravel())
    return hashlib.sha256(flat.astype(np.float32).tobytes()).digest()
