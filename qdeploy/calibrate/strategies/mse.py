"""`mse`: static, one scale per tensor, the range with the least squared error."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, static_plan
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.ranges import mse


def plan(context: Context) -> Plan:
    """Ranges by search over the histogram."""
    scheme = context.options.scheme
    return static_plan(context, "mse", lambda s: mse(context.statistics[s.tensor], scheme))
