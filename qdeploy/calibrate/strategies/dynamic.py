"""`dynamic`: INT8 weights, activation scales found at run time (what most people use on a CPU)."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, assemble
from qdeploy.calibrate.options import GEMM_SCOPE
from qdeploy.calibrate.plan import Dynamic, Plan, SitePlan
from qdeploy.errors import PlanError


def plan(context: Context) -> Plan:
    """Each GEMM input quantized per tensor at run time.

    Raises:
        PlanError: scope "all", which needs static scales.
    """
    if context.options.scope != GEMM_SCOPE:
        raise PlanError(
            "--strategy dynamic finds the scales of GEMM inputs at run time; --scope all needs "
            "static ones. Use --scope gemm, or a static strategy such as w8a8."
        )
    reason = "scale found at run time"
    sites = [SitePlan(s.name, s.tensor, Dynamic(), reason) for s in context.sites]
    return assemble(context, "dynamic", {site.tensor: site for site in sites})
