"""Judge any quantized ONNX file: which of its GEMMs ONNX Runtime's CPU provider runs in INT8.

What was meant is read from the file as written: a GEMM whose weight is stored in 8 bits, or whose
operator computes in integers, is planned INT8. What runs is read from the optimized graph. The two
are matched by the numbers of the weight, not by names: optimizers rename initializers, transpose
them, shift uint8 to int8 with its zero point, and fold dequantized ones into floats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, quantize
from qdeploy.calibrate.plan import FLOAT, INT8
from qdeploy.deploy.certificate import tally
from qdeploy.deploy.ort_profile import find_kernels, optimized_graph
from qdeploy.deploy.ort_proof import INT8_KERNELS

Array = npt.NDArray[Any]

_FLOAT_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Attention")
# Inputs that hold the weight and its zero point, by operator.
_WEIGHT_AT = {
    "MatMulInteger": (1, 3),
    "QLinearMatMul": (3, 5),
    "MatMulIntegerToFloat": (1, 5),
    "DynamicQuantizeMatMul": (1, 3),
    "QGemm": (3, 5),
    "QAttention": (1, 7),
} | dict.fromkeys(_FLOAT_PRODUCTS, (1, None))
_LAYOUT = ("Transpose", "Reshape", "Identity", "Cast")
_EIGHT_BITS = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True)
class _Weight:
    """A stored weight, with what restores its numbers."""

    codes: Array
    zero_point: Array | None
    scale: Array | None
    axis: int

    def prints(self) -> set[bytes]:
        """Fingerprints of the forms that it may take in an optimized graph."""
        whole = self.codes.astype(np.int32)
        if self.zero_point is not None:
            whole = whole - _along(self.zero_point.astype(np.int32), whole.shape, self.axis)
        found = {_print(whole)}
        if self.scale is not None:
            scale = _along(self.scale.astype(np.float32), whole.shape, self.axis)
            found.add(_print(whole.astype(np.float32) * scale))
        return found


def judge(path: Path) -> dict[str, Any]:
    """`certificate.tally` of an ONNX file that anything may have made; nothing is timed.

    Raises:
        ModelError: the file does not load in ONNX Runtime.
    """
    graph = optimized_graph(path)
    known = _fingerprints(graph.graph)
    planned, marks = {}, {}
    for name, gemm, weight in _gemms(ir.load(path).graph):
        planned[name] = gemm
        found = [mark for print_ in weight.prints() for mark in known.get(print_, ())]
        marks[name] = found
    return tally(planned, find_kernels(graph, marks), 0.0)


def _gemms(graph: ir.Graph) -> Iterator[tuple[str, dict[str, Any], _Weight]]:
    taken: dict[str, int] = {}
    for node in graph:
        if node.op_type not in _WEIGHT_AT:
            continue
        at, zero_at = _WEIGHT_AT[node.op_type]
        value = node.inputs[at] if len(node.inputs) > at else None
        weight = _stored(value, node, zero_at)
        if weight is None or weight.codes.ndim != 2:
            continue
        integers = node.op_type in INT8_KERNELS
        planned = integers or weight.codes.dtype in (np.int8, np.uint8)
        name = str(node.name or node.outputs[0].name)
        taken[name] = taken.get(name, 0) + 1
        rank = node.inputs[0].shape.rank() if node.inputs[0] and node.inputs[0].shape else 3
        gemm = {
            "precision": INT8 if planned else FLOAT,
            "reason": "" if planned else "its weight is not stored in 8 bits",
            "flops": 2 * (128 if rank > 2 else 1) * weight.codes.size,
        }
        yield name if taken[name] == 1 else f"{name}#{taken[name]}", gemm, weight


def _stored(value: ir.Value | None, node: ir.Node, zero_at: int | None) -> _Weight | None:
    """The stored weight behind an input, or None where the input is computed."""
    while value is not None and _constant(value) is None:
        producer = value.producer()
        if producer is None:
            return None
        if producer.op_type == "DequantizeLinear":
            codes = _input(producer, 0)
            if codes is None:
                codes = _rounded(producer.inputs[0])
            if codes is None:
                return None
            return _Weight(codes, _input(producer, 2), _input(producer, 1), _axis(producer))
        if producer.op_type not in _LAYOUT:
            return None
        value = producer.inputs[0]
    array = _constant(value)
    if array is None:
        return None
    return _Weight(array, _input(node, zero_at), None, _columns(node))


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
    steps = _along(scale.astype(np.float32), floats.shape, _axis(node))
    point = _along(zero.astype(np.int32) + shift, floats.shape, _axis(node))
    result: Array = (quantize(floats, steps, point).astype(np.int32) - shift).astype(zero.dtype)
    return result


def _fingerprints(graph: ir.Graph) -> dict[bytes, list[str]]:
    """Initializer names of the optimized graph by their numbers, as stored and dequantized."""
    found: dict[bytes, list[str]] = {}
    for name, value in graph.initializers.items():
        array = _constant(value)
        if array is None or array.ndim not in (2, 3):
            continue
        if array.ndim == 3:  # MatMulNBits [N, blocks, rows of a block], uint8 around 128
            found.setdefault(_print(array.astype(np.int32) - 128), []).append(name)
            continue
        if value.dtype not in _EIGHT_BITS:
            found.setdefault(_print(array), []).append(name)
            continue
        for zero, axis in _zero_points(value):
            for print_ in _Weight(array, zero, None, axis).prints():
                found.setdefault(print_, []).append(name)
    return {key: list(dict.fromkeys(names)) for key, names in found.items()}


def _zero_points(value: ir.Value) -> Iterator[tuple[Array | None, int]]:
    """What the readers of an initializer subtract from it."""
    seen = False
    for use in value.uses():
        node = use.node
        if node.op_type == "DequantizeLinear" and use.idx == 0:
            yield _input(node, 2), _axis(node)
            seen = True
        elif node.op_type in _WEIGHT_AT and use.idx == _WEIGHT_AT[node.op_type][0]:
            yield _input(node, _WEIGHT_AT[node.op_type][1]), _columns(node)
            seen = True
    if not seen:
        yield None, 1


def _input(node: ir.Node, at: int | None) -> Array | None:
    """Numbers of an input, or None where it is absent or computed."""
    return _constant(node.inputs[at]) if at is not None and at < len(node.inputs) else None


def _columns(node: ir.Node) -> int:
    """The axis of a product's weight that has an entry per output: the first where it is turned."""
    turned = node.attributes.get("transB")
    return 0 if turned is not None and turned.as_int() else 1


def _axis(node: ir.Node) -> int:
    """The axis of a DequantizeLinear; 1 where it does not say."""
    axis = node.attributes.get("axis")
    return 1 if axis is None else axis.as_int()


def _constant(value: ir.Value | None) -> Array | None:
    """Numbers of an initializer or of a Constant node's output, or None for a computed value."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _along(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A vector as it is broadcast along an axis, a scalar as it is, blocks at their full size."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == len(shape):  # one entry per block of numbers (opset 21)
        for at, size in enumerate(shape):
            values = np.repeat(values, -(-size // values.shape[at]), axis=at).take(
                range(size), axis=at
            )
        return values
    wide = [1] * len(shape)
    wide[axis] = values.size
    return values.reshape(wide)


def _print(array: Array) -> bytes:
    """Of an array's numbers in any order, so that a transposed copy has the same."""
    flat = np.sort(np.ascontiguousarray(array).ravel())
    return hashlib.sha256(flat.astype(np.float32).tobytes()).digest()
