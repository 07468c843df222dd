"""`fp32`: the baseline, nothing quantized."""

from __future__ import annotations

from qdeploy.calibrate.context import Context
from qdeploy.calibrate.plan import FLOAT, GemmPlan, Plan


def plan(context: Context) -> Plan:
    """Every GEMM and table in FP32."""
    return Plan(
        strategy="fp32",
        scope=context.options.scope,
        activations=context.options.scheme,
        per_channel_weights=context.options.per_channel_weights,
        sites={},
        gemms={
            g.name: GemmPlan(g.name, g.weight, FLOAT, "baseline") for g in context.structure.gemms
        },
        tables=(),
        options=context.options.to_json(),
    )
