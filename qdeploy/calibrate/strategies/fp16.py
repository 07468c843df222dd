"""`fp16`: the baseline of GPU targets, nothing quantized and everything in FP16."""

from __future__ import annotations

from dataclasses import replace

from qdeploy.calibrate.context import Context
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.strategies import fp32


def plan(context: Context) -> Plan:
    """As `fp32`; the target computes it in FP16."""
    return replace(fp32.plan(context), strategy="fp16")
