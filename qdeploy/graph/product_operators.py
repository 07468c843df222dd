"""Which operators multiply which of their inputs: tables of standard ONNX and of ONNX Runtime."""

from __future__ import annotations

import onnx_ir as ir

STANDARD = ("", "ai.onnx")
Operands = tuple[int, ...]


def _alike(operands: Operands, *operators: str) -> dict[str, Operands]:
    return dict.fromkeys(operators, operands)


# Inputs that are multiplied with each other, by operator: of standard ONNX, and of ONNX Runtime's
# own operators (com.microsoft, contrib operators of 1.31). Of the recurrent ones the weights are
# the second and third input.
_KINDS: dict[str, dict[str, Operands]] = {
    "matrix": {
        **_alike((0, 1), "MatMul", "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"),
        **_alike((0, 1), "Gemm", "FusedGemm", "GemmFastGelu", "GemmFloat8"),
        **_alike((0, 1), "MatMulInteger", "MatMulInteger16", "MatMulIntegerToFloat"),
        **_alike((0, 1), "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4"),
        **_alike((0, 1), "SparseToDenseMatMul"),
        **_alike((0, 3), "QLinearMatMul", "QGemm"),
        **_alike((0, 2), "QOrderedMatMul"),
    },
    "convolution": {
        **_alike((0, 1), "Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "ConvInteger"),
        **_alike((0, 1), "ConvTranspose", "ConvTransposeWithDynamicPads", "DeformConv"),
        **_alike((0, 3), "QLinearConv"),
    },
    "recurrent": _alike((0, 1, 2), "RNN", "GRU", "LSTM", "DynamicQuantizeLSTM", "AttnLSTM"),
    "attention": {
        **_alike((0, 1), "Attention", "QAttention"),
        **_alike((0, 3), "QOrderedAttention"),
    },
}
EINSUM = "Einsum"
# Attention over keys and values that may be stored (its products are computed otherwise), and the
# operators of classical models, whose weights are attributes.
_OF_CACHES = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
CLASSICAL = "ai.onnx.ml"
# Operators of other domains that multiply no matrices; any other one with a constant of two axes or
# more is named as not judged, and counts as float.
_NO_PRODUCTS = frozenset(
    {
        "BiasAdd",
        "BiasDropout",
        "BiasGelu",
        "BiasSoftmax",
        "BiasSplitGelu",
        "CropAndResize",
        "DequantizeLinear",
        "DequantizeBFP",
        "DynamicQuantizeLinear",
        "EmbedLayerNormalization",
        "ExpandDims",
        "FastGelu",
        "GatherBlockQuantized",
        "GatherND",
        "Gelu",
        "GroupNorm",
        "Pad",
        "QEmbedLayerNormalization",
        "QLinearAdd",
        "QLinearConcat",
        "QLinearMul",
        "QLinearWhere",
        "QuantizeLinear",
        "QuickGelu",
        "RelativePositionBias",
        "GatedRelativePositionBias",
        "RemovePadding",
        "RestorePadding",
        "RotaryEmbedding",
        "SimplifiedLayerNormalization",
        "SkipGroupNorm",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "Trilu",
        "Unique",
    }
)
# Operators whose result differs from run to run though nothing is read.
RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
# Operators that read no numbers of these inputs: their shapes, or their types alone.
SHAPES_ONLY = {"Shape": 0, "Size": 0, "EyeLike": 0}
TYPE_ONLY = {"CastLike": 1}


def kind_of(node: ir.Node) -> str:
    """ "matrix", "convolution", "recurrent", "attention" or "einsum"; "" for no product."""
    if node.op_type == EINSUM:
        return "einsum"
    for kind, operators in _KINDS.items():
        if node.op_type in operators:
            own = kind == "attention" and node.domain in STANDARD  # of Q, K and V, all computed
            return "" if own else kind
    return ""


def operands_of(node: ir.Node, kind: str) -> Operands:
    """The inputs of a node that are multiplied with each other, or may be where nobody knows."""
    if kind and kind != "einsum":
        return _KINDS[kind][node.op_type]
    if node.op_type in _OF_CACHES:
        return (0, 1, 2)
    if kind == "einsum" or not (node.domain in STANDARD or node.op_type in _NO_PRODUCTS):
        return tuple(range(len(node.inputs)))
    return ()
