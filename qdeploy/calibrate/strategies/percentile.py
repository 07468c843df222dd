"""`percentile`: static, one scale per tensor, both tails clipped."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, static_plan
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.ranges import percentile


def plan(context: Context) -> Plan:
    """Two-sided percentile ranges."""
    options = context.options
    return static_plan(
        context,
        "percentile",
        lambda s: percentile(context.statistics[s.tensor], options.percentile, options.scheme),
    )
