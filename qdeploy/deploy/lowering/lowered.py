"""What a lowering hands on: the graph, and how each of its INT8 GEMMs is found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx_ir as ir


class TraceName(NamedTuple):
    """By what a product is known again in an engine.

    Attributes:
        weight: name of the constant that it multiplies with; several products may share one.
        node: name of the product itself in the lowered graph.
    """

    weight: str
    node: str


@dataclass
class Lowered:
    """A lowered graph, and the names by which its INT8 GEMMs are known in the engine.

    Attributes:
        model: the graph for the target.
        trace_names: by GEMM name, those of its int8 products.
        float_products: by GEMM name, the products that compute its outlier channels in float.
        rounded_sums: residual sums that read a rounded tensor.
    """

    model: ir.Model
    trace_names: dict[str, tuple[TraceName, ...]] = field(default_factory=dict)
    # Part of an INT8 GEMM by plan: a certificate counts them as its float share, not as a fallback.
    float_products: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rounded_sums: int = 0
