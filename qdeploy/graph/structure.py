"""What is found in a canonical graph: sites, GEMMs, tables and feed-forward blocks, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

# Role words of a site; one tensor may play several.
GEMM_INPUT = "gemm_input"
GEMM_OUTPUT = "gemm_output"
LAYER_NORM = "layer_norm"
ACTIVATION = "activation"
RESIDUAL = "residual"
ATTENTION_OPERAND = "attention_operand"
ATTENTION_OUTPUT = "attention_output"
SOFTMAX = "softmax"


@dataclass(frozen=True)
class Site:
    """One activation tensor.

    Attributes:
        name: "<module>.input" or "<module>.output".
        tensor: value name in the canonical graph.
        roles: what the tensor is, for example {"gemm_input", "layer_norm"}.
        channels: C, the static size of the last axis; 1 where channels have no meaning.
        sequence_axes: axes that run over tokens, so that padding can be masked out.
    """

    name: str
    tensor: str
    roles: frozenset[str]
    channels: int
    sequence_axes: tuple[int, ...]


@dataclass(frozen=True)
class Gemm:
    """One matrix product with a constant weight [K, N].

    Attributes:
        name: module path ("encoder.layer.3.output.dense").
        node: name of the MatMul or Gemm node.
        weight: initializer name.
        transposed: True where the initializer is stored [N, K] (Gemm with transB).
        bias: initializer name, or None.
        input: name of the activation tensor.
        output: tensor after the bias.
        k, n: sizes of the weight.
        rows: how many rows the product has per batch row of 128 tokens, for FLOPs.
    """

    name: str
    node: str
    weight: str
    transposed: bool
    bias: str | None
    input: str
    output: str
    k: int
    n: int
    rows: int

    @property
    def flops(self) -> int:
        """Floating-point operations per batch row at a sequence of 128."""
        return 2 * self.rows * self.k * self.n


@dataclass(frozen=True)
class Table:
    """An embedding table: initializer [V, H] read by a Gather along axis 0."""

    name: str
    node: str
    weight: str
    rows: int
    columns: int


@dataclass(frozen=True)
class FeedForward:
    """A block GEMM → activation function → GEMM → residual sum, as tensor names."""

    input: str
    output: str
    residual: str


@dataclass(frozen=True)
class Structure:
    """What was found in a canonical graph, all in topological order.

    Attributes:
        linear_sources: see `qdeploy.graph.linear`.
        other_flops, other_weights: of products with a constant operand that are no GEMM of a plan
            (convolutions): operations per row of 128 tokens, about, and numbers of their weights.
    """

    sites: tuple[Site, ...]
    gemms: tuple[Gemm, ...]
    tables: tuple[Table, ...]
    feed_forwards: tuple[FeedForward, ...]
    linear_sources: dict[str, str]
    by_tensor: dict[str, Site] = field(repr=False)
    other_flops: int = 0
    other_weights: int = 0

    def consumers(self, tensor: str) -> tuple[Gemm, ...]:
        """The GEMMs that read a tensor."""
        return tuple(g for g in self.gemms if g.input == tensor)
