"""Operators that TensorRT's ONNX parser does not import, or imports with restrictions.

Source: onnx-tensorrt, docs/operators.md of TensorRT 10.15; NVIDIA, "ONNX Opset Guide" of TensorRT
11 (opsets 9 to 25). Of types only what the quantization rules need is held against a graph
(`qdeploy.deploy.targets.tensorrt.rules`). A test asks the parser of TensorRT-RTX 1.7.1 for every
operator that is named here.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qdeploy.deploy.rules import ADVICE, DEQUANTIZE, ERROR, QUANTIZE, BrokenRule, label
from qdeploy.graph.constants import constant

INTEGER = (
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)
_UNKNOWN = {
    *(
        "AffineGrid",
        "Bernoulli",
        "BitCast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
    ),
    *(
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConcatFromSequence",
        "CumProd",
        "DFT",
        "Det",
        "ImageDecoder",
    ),
    *("MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss"),
    *("Optional", "OptionalGetElement", "OptionalHasElement", "RegexFullMatch", "SequenceAt"),
    *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
    *("SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat"),
    *("StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique"),
}
# Inputs that have to be known when the engine is built: operator, index, name.
_FIXED = {"CumSum": (1, "axis"), "OneHot": (1, "depth"), "Squeeze": (1, "axes")}
_FIXED["Unsqueeze"] = (1, "axes")
_OPSETS = range(9, 26)
# Of com.microsoft, what is the same under that name in ONNX itself.
_SAME = ("Gelu", QUANTIZE, DEQUANTIZE)


def operators(node: ir.Node, opset: int) -> Iterator[BrokenRule]:
    """What the parser refuses about a node, whatever it is quantized like."""
    found = (_operator(node), _computed(node), _outputs(node), _opset(node, opset))
    yield from (one for one in found if one is not None)


def _operator(node: ir.Node) -> BrokenRule | None:
    """An operator that is not imported."""
    if node.domain == "com.microsoft" and node.op_type in _SAME:
        # the parser looks at the name alone: RTX 1.7.1 was seen to build it
        text = f"it is {node.domain}'s {node.op_type}, which TensorRT takes for ONNX's"
        return BrokenRule("operator", ADVICE, label(node), text, "write it as ONNX's own")
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        # The parser looks at the name alone: RTX 1.7.1 was seen to build another domain's Neg.
        what = (
            f"{node.domain}::{node.op_type} without a plugin, or takes it for ONNX's of that name"
        )
        remedy = "write it with ONNX's own operators, or load a plugin of that name"
    elif node.op_type in INTEGER or node.domain == "com.microsoft":
        what = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        remedy = "quantize with QuantizeLinear and DequantizeLinear around a float operator instead"
    elif node.op_type in _UNKNOWN:
        what = node.op_type
        remedy = "export the model without it, or write it with other operators"
    else:
        return None
    text = f"TensorRT does not import {what}"
    return BrokenRule("operator", ERROR, label(node), text, remedy)


def _computed(node: ir.Node) -> BrokenRule | None:
    """An input that has to be known when the engine is built, and is not.

    Stricter than RTX 1.7.1, which was seen to take one that it can compute from ranks alone.
    """
    index, what = _FIXED.get(node.op_type, (0, ""))
    given = node.inputs[index] if what and len(node.inputs) > index else None
    if given is None or constant(given) is not None:
        return None
    return BrokenRule(
        "constant-input",
        ERROR,
        label(node),
        f"its {what} is computed, and TensorRT needs it when it builds",
        "fold constants before, or store it as an initializer",
    )


def _outputs(node: ir.Node) -> BrokenRule | None:
    """A second output, which TensorRT does not give.

    RTX 1.7.1 was seen to refuse one that nobody reads, too.
    """
    if node.op_type != "LayerNormalization" or not any(v.name for v in node.outputs[1:]):
        return None
    return BrokenRule(
        "one-output",
        ERROR,
        label(node),
        "TensorRT's LayerNormalization gives its first output only",
        "leave the others out, or compute them with operators of their own",
    )


def _opset(node: ir.Node, opset: int) -> BrokenRule | None:
    """A graph of an opset that is not documented, said once: of its first node.

    An advice: the parser refuses none for its number. RTX 1.7.1 was seen to read 6 to 30.
    """
    first = node.graph is not None and node is node.graph[0] and isinstance(node.graph, ir.Graph)
    if not first or opset in _OPSETS:
        return None
    return BrokenRule(
        "opset",
        ADVICE,
        label(node),
        f"the graph has opset {opset}, and TensorRT is documented for {_OPSETS[0]} to "
        f"{_OPSETS[-1]}",
        "export with another opset, or convert it",
    )
