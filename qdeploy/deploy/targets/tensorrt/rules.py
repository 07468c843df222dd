"""TensorRT's rules for Q/DQ graphs, held against any ONNX file, ours or not.

Sources: NVIDIA TensorRT documentation 10.x and 11.x, "Working with Quantized Types" (explicit
quantization) and "Strongly Typed Networks"; the ONNX operators QuantizeLinear and DequantizeLinear.
An error: the parser or builder refuses the graph, a product loses INT8 by what its pair says, or
the engine computes something else. An advice: the graph builds, and part of it will not run in INT8
or not in a fused kernel.

Every rule is held against TensorRT-RTX 1.7.1 (`tests/deploy/test_rules_against_compiler.py`), which
is another compiler than TensorRT 10 and 11. Where their documentation is stricter, its reading is
kept, and a comment says so. docs/gpu.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.lowering.fp16_scales import SMALLEST
from qdeploy.deploy.rules import (
    ADVICE,
    DEQUANTIZE,
    ERROR,
    QUANTIZE,
    BrokenRule,
    code_type,
    label,
    of_weight,
    output_axis,
    prepared,
    rank_of,
    readers,
)
from qdeploy.deploy.targets.tensorrt.forms import forms
from qdeploy.deploy.targets.tensorrt.operators import INTEGER, operators
from qdeploy.graph.constants import constant

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Operators whose float inputs must be of one type; strongly typed networks cast nothing. RTX 1.7.1
# was seen to take two in Pow and RMSNormalization; earlier parsers hand them on as they are.
_ONE_TYPE = {
    *("Add", "Concat", "Conv", "Div", "Gemm", "LayerNormalization", "MatMul", "Max", "Mean", "Min"),
    *("Mul", "PRelu", "Pow", "RMSNormalization", "Sub", "Sum", "Where"),
}
_CODES = (
    ir.DataType.INT8,
    ir.DataType.INT4,
    ir.DataType.FLOAT8E4M3FN,
    ir.DataType.FLOAT4E2M1,
)
_SYMMETRIC = "calibrate with symmetric ranges (--activations symmetric)"
_HALF_SCALES = 19  # first opset whose Q/DQ takes FP16


def broken_rules(model: ir.Model) -> list[BrokenRule]:
    """Every broken rule, in graph order; errors and advice.

    Args:
        model: any ONNX graph, with its branches; its weights have to be at hand.
    """
    graph = prepared(model).graph
    opset = graph.opset_imports.get("", 0)
    found: list[BrokenRule] = []
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for rule in _RULES:
            found += rule(node, opset)
    return found


def _scales(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    if node.op_type not in (QUANTIZE, DEQUANTIZE) or len(node.inputs) < 2:
        return
    name = label(node)
    scale = constant(node.inputs[1])
    if scale is None:
        yield BrokenRule(
            "constant-scale",
            ERROR,
            name,
            "its scale is computed at run time",
            "calibrate, and store the scale as an initializer",
        )
        return
    values = scale.astype(np.float64)
    if not np.isfinite(values).all() or (values <= 0).any():
        yield BrokenRule(
            "positive-scale",
            ERROR,
            name,
            f"its scale is {values.min():g}, and must be finite and above zero",
            "widen the range, or leave the tensor in float",
        )
    elif scale.dtype == np.float16 and values.min() < SMALLEST:
        yield BrokenRule(
            "normal-scale",
            ERROR,
            name,
            f"its FP16 scale {values.min():.3g} is below {SMALLEST:.3g} and may become zero",
            "multiply the tensor before it is quantized and divide the weights, or leave it in "
            "float",
        )
    # ONNX's own rule: RTX 1.7.1 was seen to build such a graph in INT8
    if scale.dtype == np.float16 and opset < _HALF_SCALES:
        yield BrokenRule(
            "opset",
            ADVICE,
            name,
            f"opset {opset} has no FP16 scales, so ONNX's checker and ONNX Runtime refuse it",
            f"export with opset {_HALF_SCALES} or later",
        )


def _codes(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    """What is quantized becomes int8 (or a type of TensorRT's own) with zero point 0."""
    del opset
    if node.op_type not in (QUANTIZE, DEQUANTIZE) or not node.inputs:
        return
    name, kind = label(node), code_type(node)
    if kind == ir.DataType.INT32:
        text = "it dequantizes int32, a quantized bias, and TensorRT's are in float"
        yield BrokenRule("float-bias", ERROR, name, text, "store the bias in float")
    elif kind == ir.DataType.UINT8:
        # RTX 1.7.1 refuses it, but for a zero point of 0: it was seen to make that one int8
        text = "it is uint8, and TensorRT quantizes to int8 only: codes above 127 would be lost"
        yield BrokenRule("signed", ERROR, name, text, _SYMMETRIC)
    elif kind not in _CODES:
        text = f"it is {kind.name.lower()}, and TensorRT quantizes to int8, FP8, int4 or FP4"
        yield BrokenRule("code-type", ERROR, name, text, "quantize to int8")
    elif kind == ir.DataType.INT4 and not of_weight(node):
        # stricter than RTX 1.7.1, which was seen to multiply int4 × int4
        text = "it quantizes an activation to int4, which TensorRT has for weights alone"
        yield BrokenRule("code-type", ERROR, name, text, "quantize it to int8")
    elif len(node.inputs) > 2 and node.inputs[2] is not None:
        zero = constant(node.inputs[2])
        if zero is None or np.any(zero.astype(np.float32) != 0):
            yield BrokenRule("zero-point", ERROR, name, "its zero point is not 0", _SYMMETRIC)


def _granularity(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    """One scale per activation; of a weight one per output channel."""
    del opset
    if node.op_type not in (QUANTIZE, DEQUANTIZE) or len(node.inputs) < 2:
        return
    scale = constant(node.inputs[1])
    if scale is None or scale.size == 1:
        return
    name = label(node)
    if not of_weight(node):
        yield BrokenRule(
            "per-tensor",
            ERROR,
            name,
            f"an activation has {scale.size} scales, and TensorRT takes one",
            "give each group of channels a slice and a product of its own (strategy peg), or "
            "multiply channels before they are quantized",
        )
        return
    if node.op_type != DEQUANTIZE:
        return
    if scale.ndim > 1:
        if code_type(node) == ir.DataType.INT8:
            # RTX 1.7.1 refuses the product with an int8 activation, and multiplies a float one
            text = "it has a scale per block of int8, and TensorRT takes blocks of smaller types"
            remedy = "quantize the weight per output channel"
            yield BrokenRule("blocks", ERROR, name, text, remedy)
        return
    given = node.attributes.get_int("axis", 1)
    for use in node.outputs[0].uses():
        rank = rank_of(node.inputs[0])
        wanted = output_axis(use.node, use.idx, rank)
        if wanted is not None and rank is not None and given % rank != wanted % rank:
            yield BrokenRule(
                "output-axis",
                ERROR,
                name,
                f"its scales run along axis {given}, and the output channels of "
                f"{label(use.node)} along axis {wanted % rank}",
                "quantize the weight per output channel",
            )


def _pairs(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    """What is quantized is dequantized; int8 weights are read by DequantizeLinear alone."""
    del opset
    name = label(node)
    if node.op_type == QUANTIZE:
        if node.outputs[0].is_graph_output():
            # RTX 1.7.1 was seen to build it, with an int8 output
            text, remedy = "its codes leave the graph as they are", "put DequantizeLinear behind it"
            yield BrokenRule("pair", ADVICE, name, text, remedy)
        for reader in readers(node.outputs[0]):
            if reader.op_type != DEQUANTIZE:
                # stricter than RTX 1.7.1, which was seen to build a Cast of codes
                yield BrokenRule(
                    "pair",
                    ERROR,
                    name,
                    f"its codes are read by {reader.op_type} {label(reader)}",
                    "put DequantizeLinear behind every QuantizeLinear",
                )
        return  # its own int8 constant is the zero point
    if node.op_type in (DEQUANTIZE, *INTEGER) or node.domain == "com.microsoft":
        return
    for value in node.inputs:
        if value is None or not value.is_initializer() or value.dtype not in _CODES:
            continue
        kind = value.dtype.name.lower()
        yield BrokenRule(
            "pair",
            ERROR,
            name,
            f"it reads the {kind} constant {value.name} without DequantizeLinear",
            "put DequantizeLinear between them, or store the constant in float",
        )


def _types(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    del opset
    if node.op_type not in _ONE_TYPE:
        return
    types = {v.dtype for v in node.inputs if v is not None and v.dtype in _FLOATS}
    if len(types) > 1:
        names = " and ".join(sorted(t.name for t in types if t is not None))
        yield BrokenRule(
            "one-type",
            ERROR,
            label(node),
            f"{node.op_type} reads {names}, and a strongly typed network casts nothing by itself",
            "give DequantizeLinear a scale of the type of its neighbours, or add a Cast",
        )


def _bias(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    del opset
    if node.op_type not in ("Gemm", "Conv") or len(node.inputs) < 3:
        return
    bias = node.inputs[2]
    before = None if bias is None else bias.producer()
    if before is not None and before.op_type == DEQUANTIZE:
        if code_type(before) == ir.DataType.INT32:
            return  # said of that node
        # RTX 1.7.1 was seen to build it, and to multiply in INT8 all the same
        yield BrokenRule(
            "float-bias",
            ADVICE,
            label(node),
            "its bias is quantized, which costs accuracy and a kernel, and saves nothing",
            "store the bias in float",
        )


_RULES: tuple[Callable[[ir.Node, int], Iterator[BrokenRule]], ...] = (
    operators,
    _scales,
    _codes,
    _granularity,
    _pairs,
    _types,
    _bias,
    forms,
)
