"""`entropy`: static, one scale per tensor, the range with the least KL divergence."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, static_plan
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.ranges import entropy


def plan(context: Context) -> Plan:
    """Ranges by search over the histogram."""
    scheme = context.options.scheme
    return static_plan(context, "entropy", lambda s: entropy(context.statistics[s.tensor], scheme))
