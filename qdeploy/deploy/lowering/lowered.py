"""What a lowering hands on: the graph, and how each of its INT8 GEMMs is found again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qdeploy.calibrate.affine import SMALLEST_SCALE
from qdeploy.schemas.certificate import WidenedColumns
from qdeploy.types import Array

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


@dataclass(frozen=True)
class Widened:
    """Columns of int8 weights whose scale was widened, for their pairs to fit 16 bits.

    Attributes:
        columns: of the weights.
        widened: how many of them.
        power: Σ scale² of all columns, to which the noise of their rounding is proportional.
        plain: the same without.
    """

    columns: int = 0
    widened: int = 0
    power: float = 0.0
    plain: float = 0.0

    @classmethod
    def of(cls, weight: Array, scale: Array) -> Widened:
        """What the scale [N] or [1] of a weight, FP32 [K, N], is beyond its largest numbers."""
        # as `quantize_weight` makes them where no pair has to fit
        largest = np.abs(weight).max(axis=0)
        largest = largest if scale.size > 1 else largest.max(keepdims=True)
        plain = np.maximum(largest / 127, SMALLEST_SCALE).astype(np.float64)
        wide = scale.astype(np.float64).reshape(plain.shape)
        more = int((wide > 1.0001 * plain).sum())  # FP32 rounds both
        return cls(plain.size, more, float((wide**2).sum()), float((plain**2).sum()))

    def __add__(self, other: Widened) -> Widened:
        return Widened(
            self.columns + other.columns,
            self.widened + other.widened,
            self.power + other.power,
            self.plain + other.plain,
        )

    @property
    def noise_db(self) -> float:
        """What it adds to the noise of the weights."""
        return round(10 * math.log10(self.power / self.plain), 2) if self.plain else 0.0

    def to_json(self) -> WidenedColumns:
        """For plan.json and certificate.json."""
        return {"columns": self.columns, "widened": self.widened, "noise_db": self.noise_db}


@dataclass
class Lowered:
    """A lowered graph, and the names by which its INT8 GEMMs are known in the engine.

    Attributes:
        model: the graph for the target.
        trace_names: by GEMM name, those of its int8 products.
        float_products: by GEMM name, the products that compute its outlier channels in float.
        rounded_sums: residual sums that read a rounded tensor.
        widened: by GEMM name, where pairs of weights were to fit 16 bits.
    """

    model: ir.Model
    trace_names: dict[str, tuple[TraceName, ...]] = field(default_factory=dict)
    # Part of an INT8 GEMM by plan: a certificate counts them as its float share, not as a fallback.
    float_products: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rounded_sums: int = 0
    widened: dict[str, Widened] = field(default_factory=dict)
