"""What a lowering hands on: the graph, and how each of its INT8 GEMMs is found again."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir


@dataclass
class Lowered:
    """A lowered graph, and the marks by which its INT8 GEMMs are known in the engine.

    Attributes:
        model: the graph for the target.
        marks: by GEMM name, what a target's runtime keeps of it: the names of its int8 weights.
        float_columns: by GEMM name, input channels that a slim float GEMM takes.
        rounded_sums: residual sums that read a rounded tensor.
    """

    model: ir.Model
    marks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    float_columns: dict[str, int] = field(default_factory=dict)
    rounded_sums: int = 0
