"""What ONNX Runtime's CUDA provider makes of a quantized graph, held against any ONNX file.

It has an integer kernel for MatMulInteger of int8 by int8 (and the QOrdered operators), and none
for Q/DQ pairs around a product: these run one by one, in float, slower than no pair at all. What
it has no kernel for runs on the CPU, with copies to and fro. Source: ONNX Runtime 1.31's list of
operators (docs/OperatorKernels.md there).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qdeploy.deploy.rules import (
    ADVICE,
    ERROR,
    PRODUCTS,
    BrokenRule,
    dequantized,
    label,
    prepared,
    source_of,
)
from qdeploy.graph.constants import constant

_REMEDY = "build with --target ort-cuda, which writes MatMulInteger of int8"
_ON_THE_CPU = (
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QEmbedLayerNormalization",
    "QGemm",
)


def broken_rules(model: ir.Model) -> list[BrokenRule]:
    """Every product that would not run as an integer kernel of that provider, in graph order.

    Args:
        model: any ONNX graph, with its branches.
    """
    nodes = ir.traversal.RecursiveGraphIterator(prepared(model).graph)
    return [found for node in nodes for found in _of_node(node)]


def _of_node(node: ir.Node) -> Iterator[BrokenRule]:
    name = label(node)
    if node.op_type in PRODUCTS and any(map(dequantized, node.inputs[:2])):
        text = (
            f"{node.op_type} reads Q/DQ pairs, which this provider does not turn into an integer "
            "kernel: it runs in float, slower than without them"
        )
        weighed = any(constant(source_of(value)) is not None for value in node.inputs[:2])
        yield BrokenRule("pairs", ERROR if weighed else ADVICE, name, text, _REMEDY)
    elif node.op_type in _ON_THE_CPU or node.op_type.startswith("QLinear"):
        text = f"this provider has no kernel for {node.op_type}: it runs on the CPU"
        yield BrokenRule("operator", ERROR, name, text, _REMEDY)
    elif node.op_type == "MatMulInteger":
        unsigned = [v for v in node.inputs[:2] if v is not None and v.dtype == ir.DataType.UINT8]
        if unsigned:
            text = f"{unsigned[0].name} is uint8, and this provider's kernel multiplies int8 only"
            yield BrokenRule("signed", ERROR, name, text, _REMEDY)
