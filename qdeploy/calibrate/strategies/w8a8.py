"""`w8a8`: static, one scale per tensor over the whole range that was seen."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, static_plan
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.ranges import minmax


def plan(context: Context) -> Plan:
    """Min-max ranges."""
    return static_plan(context, "w8a8", lambda site: minmax(context.statistics[site.tensor]))
