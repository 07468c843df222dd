"""`smoothquant`: part of each channel's range is moved from the activation into the weight."""

from __future__ import annotations

from qdeploy.calibrate.context import Context, assemble, is_gemm_input
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.options import AUTO
from qdeploy.calibrate.plan import Plan, SitePlan
from qdeploy.calibrate.pre_quant_scale import GRID, best_smoothing
from qdeploy.calibrate.ranges import minmax
from qdeploy.calibrate.sharing import plan_sites
from qdeploy.graph.structure import Site


def plan(context: Context) -> Plan:
    """Pre-scaled GEMM inputs; any other site of the scope as in w8a8."""
    sites = plan_sites(context, _smoothed)
    return assemble(context, "smoothquant", {site.tensor: site for site in sites})


def _smoothed(context: Context, site: Site) -> SitePlan:
    if not is_gemm_input(site) or site.channels == 1:
        bounds = minmax(context.statistics[site.tensor])
        return context.per_tensor(site, bounds, "w8a8 (no GEMM behind it)")
    chosen = context.options.alpha
    best = best_smoothing(context, site, GRID if chosen == AUTO else (float(chosen),))
    noise = decibels(best.activation + best.weights)
    return SitePlan(site.name, site.tensor, best.treatment, f"α = {best.alpha}", noise)
