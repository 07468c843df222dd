"""From a plan to the graph of a target: rewritten in FP32, lowered, and without needless work."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from qdeploy.calibrate.options import EVERYWHERE
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.strategies import FP16
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.options import REMOVED
from qdeploy.deploy.passes.equivalence import ModelInputs
from qdeploy.deploy.passes.leave_out import LeftOut, leave_out
from qdeploy.deploy.passes.pipeline import passes_for, run_passes
from qdeploy.deploy.request import Request
from qdeploy.errors import PlanError, QDeployWarning
from qdeploy.graph.structure import Structure
from qdeploy.schemas.manifest import Interface, LeftOutFields


def lower(
    request: Request, model: ir.Model, plan: Plan, structure: Structure, manifest: Interface
) -> tuple[Lowered, dict[str, Any], LeftOutFields]:
    """The lowered graph, what was rewritten in FP32 before, and what was left out afterwards.

    Args:
        model: canonical graph, which is consumed.
        plan, structure: of that graph.
        manifest: of the model directory.

    Raises:
        PlanError: padding was to be removed, and cannot be.
        VerificationError: the graph breaks rules of its target, which is a fault of ours.
    """
    inputs = ModelInputs.of(manifest)
    canonical = model.clone() if request.leaves_out else None
    lowered, rewrites = _quantized(request, model, plan, structure, inputs)
    found = LeftOut(lowered.model)
    if canonical is not None:
        found = leave_out(lowered.model, canonical, inputs, padding=request.drops_padding)
    if found.reason and request.asked.padding == REMOVED:
        raise PlanError(f"--padding removed: {found.reason}. Leave it out.")
    lowered = replace(lowered, model=found.model)
    request.target.check(lowered.model)
    _warn_of_residuals(request, lowered)
    left_out: LeftOutFields = {
        "asked": request.asked.padding,
        "padding_removed": found.padding,
        "reason": found.reason,
        "unread_nodes": found.unread,
    }
    if lowered.widened:
        widened = {name: found.to_json() for name, found in lowered.widened.items()}
        rewrites = rewrites | {"widened_columns": widened}
    return lowered, rewrites, left_out


def _quantized(
    request: Request, model: ir.Model, plan: Plan, structure: Structure, inputs: ModelInputs
) -> tuple[Lowered, dict[str, Any]]:
    """The lowered graph, and what was rewritten in FP32 before; `model` is consumed."""
    if request.asked.strategy != FP16 and not (plan.quantized_gemms or plan.tables or plan.sites):
        return Lowered(model), {}
    passes = passes_for(inputs, fold=request.target.pre_quant_scale != EVERYWHERE)
    done = run_passes(passes, model, plan, structure, inputs)
    rows, tokens = request.asked.shape
    tokens = min(tokens, inputs.max_length)
    return request.target.lower(done.model, done.plan, structure, rows * tokens), done.report


def _warn_of_residuals(request: Request, lowered: Lowered) -> None:
    if request.plan.int8_residuals and not lowered.rounded_sums:
        warnings.warn(
            "--int8-residuals changed nothing: no residual sum has one scale in this plan.",
            QDeployWarning,
            stacklevel=3,
        )
