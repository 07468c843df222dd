"""From a request to a plan: the strategy's, in the form that is cheapest on the target."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.options import NONE
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import make_plan
from qdeploy.deploy.lowering.cost_model import cheapest
from qdeploy.deploy.request import Request
from qdeploy.figures import percent
from qdeploy.graph.structure import Structure
from qdeploy.schemas.autotune import Forms
from qdeploy.schemas.built import PlanSummary


def plan_of(
    request: Request, model: ir.Model, structure: Structure, observed: Statistics | None
) -> tuple[Plan, Forms | None]:
    """The plan, and where its forms were weighed, what they are expected to cost (`cheapest`)."""
    context = Context(
        structure=structure,
        statistics={} if observed is None else observed.sites,
        weights=weights_of(model, structure),
        options=request.plan,
    )
    plan = make_plan(request.asked.strategy, context)
    costs = request.target.costs if request.weighs else None
    if costs is None:
        return plan, None
    without = replace(context, options=replace(request.plan, prescale=NONE))
    groups = make_plan(request.asked.strategy, without)
    plan, found = cheapest(plan, groups, structure, request.asked.shape, costs)
    return plan, found


def summary(plan: Plan, planned_share: float) -> PlanSummary:
    """Counts a reader wants first.

    Args:
        planned_share: of the FLOPs of all products, 0 … 1.
    """
    kinds: dict[str, int] = {}
    for site in plan.sites.values():
        kinds[site.treatment.kind] = kinds.get(site.treatment.kind, 0) + 1
    levels = [site.sqnr_db for site in plan.sites.values() if site.sqnr_db is not None]
    return {
        "sites": kinds,
        "int8_gemms": len(plan.int8_gemms),
        "fp8_gemms": len(plan.quantized_gemms) - len(plan.int8_gemms),
        "float_gemms": len(plan.gemms) - len(plan.quantized_gemms),
        "lowest_sqnr_db": min(levels) if levels else None,
        "planned_share": percent(planned_share),
    }
