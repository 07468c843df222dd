"""Every product with a constant operand in an ONNX graph, found by what depends on the inputs.

A certificate is held against these, not against what was planned: a weight behind a Transpose, in
the body of an If, in a function or in a Conv is work that may run in float all the same. An operand
is constant when no input of the graph reaches it, whatever nodes it passes; a product of constants
alone is none, since runtimes compute it once, at load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

_STANDARD = ("", "ai.onnx")
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
        "MultiHeadAttention",
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
_RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)


@dataclass(frozen=True)
class Product:
    """A node that multiplies something computed with something constant.

    Attributes:
        node: of the graph, or of a body in it.
        operands: which of its inputs are multiplied with each other.
        constants: those of them that no input of the graph reaches.
        optional: in a branch that some inputs take and others do not.
        judged: False for an operator that is not known, whose FLOPs are an estimate.
    """

    node: ir.Node
    operands: Operands
    constants: Operands
    optional: bool
    judged: bool = True

    @property
    def name(self) -> str:
        """Of the node, or of its output where it has none."""
        return str(self.node.name or self.node.outputs[0].name)

    @property
    def operator(self) -> str:
        """The node's operator, with its domain where that is not ONNX's own."""
        domain = self.node.domain
        return self.node.op_type if domain in _STANDARD else f"{domain}.{self.node.op_type}"

    @property
    def entries(self) -> int:
        """Numbers of its weight: every one is met once by every row."""
        attributes = self.node.attributes
        if "K" in attributes and "N" in attributes:  # MatMulNBits stores its weight in blocks
            return attributes["K"].as_int() * attributes["N"].as_int()
        return sum(_entries(self.node.inputs[at]) for at in self.constants)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the initializers behind its constant operands."""
        found: dict[str, None] = {}
        for at in self.constants:
            found |= dict.fromkeys(_initializers(self.node.inputs[at]))
        return tuple(found)


def find_products(model: ir.Model) -> list[Product]:
    """The products of a graph and of the bodies in it, in order; calls of functions are not
    followed (inline them first)."""
    return _Search().graph(model.graph, optional=False)


def kind_of(node: ir.Node) -> str:
    """ "matrix", "convolution", "recurrent", "attention" or "einsum"; "" for no product."""
    if node.op_type == EINSUM:
        return "einsum"
    for kind, operators in _KINDS.items():
        if node.op_type in operators:
            own = kind == "attention" and node.domain in _STANDARD  # of Q, K and V, all computed
            return "" if own else kind
    return ""


class _Search:
    """One pass over a graph, which knows the tensors that depend on its inputs."""

    def __init__(self) -> None:
        self._varying: set[ir.Value] = set()

    def graph(self, graph: ir.Graph, *, optional: bool) -> list[Product]:
        # an initializer that is listed as an input too is its default, and almost always its value
        self._varying.update(value for value in graph.inputs if not value.is_initializer())
        found: list[Product] = []
        for node in graph:
            bodies = list(_bodies(node))
            reached = node.op_type in _RANDOM or any(v in self._varying for v in node.inputs)
            branches = node.op_type == "If" and node.inputs[0] in self._varying
            for body in bodies:
                found += self.graph(body, optional=optional or branches)
                reached = reached or any(v in self._varying for v in body.outputs)
            product = self._product(node, optional=optional)
            if product is not None:
                found.append(product)
            if reached:
                self._varying.update(node.outputs)
        return found

    def _product(self, node: ir.Node, *, optional: bool) -> Product | None:
        kind = kind_of(node)
        if kind == "einsum":
            operands = tuple(range(len(node.inputs)))
        elif kind:
            operands = _KINDS[kind][node.op_type]
        elif node.domain in _STANDARD or node.op_type in _NO_PRODUCTS:
            return None
        else:
            operands = tuple(range(len(node.inputs)))
        given = [at for at in operands if at < len(node.inputs) and node.inputs[at] is not None]
        constants = tuple(at for at in given if node.inputs[at] not in self._varying)
        if not constants or len(constants) == len(given):
            return None
        if not kind and not any(_rank(node.inputs[at]) >= 2 for at in constants):
            return None
        return Product(node, tuple(given), constants, optional, bool(kind))


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else value.shape.rank()


def _entries(value: ir.Value | None) -> int:
    """Numbers of a constant, or of the largest one that it is computed from."""
    if value is None:
        return 0
    if (tensor := ir.convenience.get_const_tensor(value)) is not None:
        return int(tensor.size)
    node = value.producer()
    return 0 if node is None else max((_entries(source) for source in node.inputs), default=0)


def _initializers(value: ir.Value | None) -> Iterator[str]:
    """Initializers and constants that a value is computed from, the largest way first."""
    if value is None:
        return
    node = value.producer()
    if node is None or node.op_type == "Constant":
        yield str(value.name)
        return
    for source in node.inputs:
        yield from _initializers(source)
