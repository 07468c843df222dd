"""What ONNX Runtime makes of a graph: which node computes with which weight, in INT8 or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from qdeploy.deploy.ort.events import INT8_KERNELS as INT8_KERNELS
from qdeploy.graph.constants import constant

# Between a stored weight and its product: these only change its form.
_FORM = frozenset({"DequantizeLinear", "Transpose", "Cast", "Reshape", "Identity", "Squeeze"})
_FUSED_GEMM = ("Gemm", "FusedGemm")


def load_optimized(path: Path) -> ir.Model:
    """Read an optimized graph whole, so that its file may go."""
    return ir.external_data.load_to_model(ir.load(path))


def products(model: ir.Model, weights: Iterable[str]) -> list[ir.Node]:
    """The nodes that compute with these initializers, behind dequantization and layout."""
    found: list[ir.Node] = []
    for name in weights:
        value = model.graph.initializers.get(name)
        if value is not None:
            found += [node for node in _readers(value) if node not in found]
    return found


def _readers(value: ir.Value) -> Iterator[ir.Node]:
    pending = [*value.uses()][::-1]
    while pending:
        use = pending.pop()
        if use.node.op_type in _FORM and use.idx == 0:
            pending += [*use.node.outputs[0].uses()][::-1]
        else:
            yield use.node


def fallback_reason(node: ir.Node) -> str:
    """Why a product with an int8 weight is computed in float; empty where it is not.

    The cause is read from the node's activation: what quantizes it, with which types and scales.
    """
    if node.op_type in INT8_KERNELS:
        return _refused(node)
    if node.op_type == "MatMulNBits":
        return (
            "its input is not quantized (weight-only): ONNX Runtime computes it as MatMulNBits, "
            "which takes floats"
        )
    if node.op_type not in ("MatMul", "FusedMatMul", *_FUSED_GEMM):
        return f"{node.op_type} is not known to multiply in integers: it counts as float"
    source = _behind_layout(node.inputs[0])
    producer = None if source is None else source.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return (
            "its input is not quantized where it enters the product: nothing quantizes it, or the "
            "quantization was moved or fused away"
        )
    codes, scale = producer.inputs[0], producer.inputs[1]
    if ir.DataType.FLOAT16 in _scale_types(codes, scale):
        return "its scales are FP16, and ONNX Runtime's CPU kernels take FP32 ones"
    array = constant(scale)
    if array is not None and array.size > 1:
        return (
            "its input has scales along an axis, and the kernel takes one; slice the input into "
            "groups with one scale each"
        )
    # optimized graphs carry few types; a zero point has the type of its codes
    zero_point = producer.inputs[2] if len(producer.inputs) > 2 else None
    if ir.DataType.INT8 in (getattr(codes, "dtype", None), getattr(zero_point, "dtype", None)):
        return (
            "its input is int8; where several products share it ONNX Runtime's CPU provider fuses "
            "uint8 only (or set session.qdqisint8allowed)"
        )
    if node.op_type in _FUSED_GEMM:
        return (
            "two-dimensional MatMul and Add were fused into a float Gemm; keep the input "
            "three-dimensional, or switch MatMulAddFusion off"
        )
    return f"ONNX Runtime left it as {node.op_type}, for a reason that is not known"


def _scale_types(codes: ir.Value | None, scale: ir.Value | None) -> set[ir.DataType | None]:
    """Types of the scales that an activation passes: optimizers recast one of the two."""
    quantizer = None if codes is None else codes.producer()
    scales = [scale, *(quantizer.inputs[1:2] if quantizer is not None else [])]
    return {value.dtype for value in scales if value is not None}


def _refused(node: ir.Node) -> str:
    """Why a kernel that is INT8 by name stops when it runs (1.31); empty where it does not."""
    if node.op_type != "MatMulIntegerToFloat":
        return ""
    scales = constant(node.inputs[3])
    if scales is not None and scales.ndim > 1 and scales.shape[-2] > 1:
        return (
            "its weight has a scale per block and the kernel takes one per column: it loads and "
            "stops at the first run"
        )
    for at in (2, 4):
        array = constant(node.inputs[at]) if len(node.inputs) > at else None
        if array is not None and array.size > 1:
            return (
                f"its input has {array.size} scales or zero points and the kernel takes one: it "
                "loads and stops at the first run; slice the input into groups with one scale each"
            )
    return ""


def _behind_layout(value: ir.Value | None) -> ir.Value | None:
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in ("Transpose", "Reshape", "Identity", "Cast"):
            return value
        value = node.inputs[0]
    return None
