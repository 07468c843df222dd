"""What a site is, in a reader's words, and the layer it belongs to: from the structure alone."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.graph.gemms import unique_name
from qdeploy.graph.structure import (
    ACTIVATION,
    ATTENTION_OPERAND,
    ATTENTION_OUTPUT,
    GEMM_INPUT,
    LAYER_NORM,
    RESIDUAL,
    SOFTMAX,
    Site,
    Structure,
)
from qdeploy.names import short_name

FFN_RESIDUAL = "FFN residual sum"
FFN_OUTPUT, EMBEDDING_SUM, GEMM_OUTPUT = "FFN output", "embedding sum", "GEMM output"
# The first role that a site plays names it; a tensor may play several.
_BY_ROLE = (
    (SOFTMAX, "attention probabilities"),
    (ACTIVATION, "activation function output"),
    (LAYER_NORM, "LayerNorm output"),
    (RESIDUAL, "attention residual sum"),
    (ATTENTION_OUTPUT, "attention product"),
    (ATTENTION_OPERAND, "attention operand"),
    (GEMM_INPUT, "GEMM input"),
)


@dataclass(frozen=True)
class Place:
    """Where a site stands.

    Attributes:
        kind: what it is, for example "FFN residual sum".
        layer: number of the encoder layer from 0; None before the first and behind the last.
        depth: layers behind which it stands, 0 … number of layers: 0 for embeddings.
        short: `qdeploy.names.short_name` of its name, for example "L0 ffn.output.input".
    """

    kind: str
    layer: int | None
    depth: int
    short: str


def places(structure: Structure) -> dict[str, Place]:
    """The place of every site, by tensor name.

    A layer ends with the residual sum of its feed-forward block. What stands before the first GEMM
    is of the embeddings; LayerNorm behind a residual sum belongs to the layer that it closes, which
    is where a post-LayerNorm encoder has it (BERT, RoBERTa, MPNet, DeBERTa).
    """
    blocks = structure.feed_forwards
    ends = {block.residual: index for index, block in enumerate(blocks)}
    outputs = {block.output for block in blocks}
    first = structure.gemms[0].output if structure.gemms else ""
    found: dict[str, Place] = {}
    layer, inside, closing = 0, False, False
    taken: set[str] = set()
    for site in structure.sites:
        inside = inside or site.tensor == first
        if closing and LAYER_NORM not in site.roles:
            layer, closing = layer + 1, False
        here = layer if inside and layer < len(blocks) else None
        depth = 0 if not inside else min(layer + 1, len(blocks))
        kind = _kind(site, ends, outputs, inside=inside)
        short = unique_name(short_name(site.name), taken)
        found[site.tensor] = Place(kind, here, depth, short)
        closing = closing or site.tensor in ends
    return found


def _kind(site: Site, ends: dict[str, int], outputs: set[str], *, inside: bool) -> str:
    if site.tensor in ends:
        return FFN_RESIDUAL
    if site.tensor in outputs:
        return FFN_OUTPUT
    for role, kind in _BY_ROLE:
        if role in site.roles:
            return EMBEDDING_SUM if role == RESIDUAL and not inside else kind
    return GEMM_OUTPUT
