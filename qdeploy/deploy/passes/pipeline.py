"""What is rewritten in FP32 before a plan is lowered, and the proof that nothing changed by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx_ir as ir

from qdeploy.calibrate.plan import Grouped, Plan
from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.passes.attention_mask import (
    LARGEST_LEAK,
    MASKED,
    MaskChange,
    conditions,
    leak,
    lighten_masks,
    softmax_outputs,
)
from qdeploy.deploy.passes.equivalence import compare, padded_feeds, run_once
from qdeploy.deploy.passes.fold_scales import Folded, fold_prescales
from qdeploy.deploy.passes.permute_channels import fold_permutations
from qdeploy.errors import VerificationError
from qdeploy.graph.structure import Structure

_LONGEST = 4096  # tokens; the conditions of longer rows take too much memory


def rewrite(
    model: ir.Model, plan: Plan, structure: Structure, manifest: dict[str, Any], *, fold: bool
) -> tuple[Plan, dict[str, Any]]:
    """Fold channel permutations and factors, and lighten attention masks, in place.

    Both graphs run on a padded batch of random tokens; a mask under which a masked token would get
    any attention there stays as it was.

    Args:
        model: canonical FP32 graph.
        plan: of that graph.
        structure: of that graph; it holds for the rewritten one too.
        manifest: of the model directory.
        fold: take factors out of the graph where that is possible; where a target multiplies for
            nothing they stay.

    Returns:
        The plan with the new channel indices, and what plan.json says of the rewrites:
        {"channel_orders": {set: order}, "folded_prescales": [site], "attention_mask": {"value",
        "largest_leak"} or None}.

    Raises:
        VerificationError: a permutation changed an output by more than FP32 rounding explains.
    """
    original = model.clone()
    orders: dict[str, list[int]] = {}
    if any(isinstance(site.treatment, Grouped) for site in plan.sites.values()):
        plan, orders = fold_permutations(model, plan, structure)
    changes = _of_padding(model, lighten_masks(model), manifest)
    folded = fold_prescales(model, plan, structure) if fold else Folded(plan, (), lambda: None)
    report: dict[str, Any] = {
        "channel_orders": orders,
        "folded_prescales": list(folded.sites),
        "attention_mask": None,
    }
    if not orders and not changes and not folded.sites:
        return plan, report
    feeds = padded_feeds(
        model,
        manifest["inputs"],
        max_length=manifest["max_length"],
        pad_token_id=manifest["pad_token_id"],
    )
    found = compare(original, model, feeds, softmax_outputs(model))
    if folded.sites and not found.agrees:  # channels come in another order
        folded.undo()
        folded, report["folded_prescales"] = replace(folded, plan=plan), []
        found = compare(original, model, feeds, softmax_outputs(model))
    if changes:
        largest = leak(found.before, found.after)
        kept = largest <= LARGEST_LEAK and found.agrees
        report["attention_mask"] = {"value": MASKED if kept else None, "largest_leak": largest}
        if not kept:
            for change in changes:
                change.undo()
            found = compare(original, model, feeds)
    if not found.agrees:
        raise VerificationError(
            f"Folding a channel permutation changed the FP32 outputs by {found}. Report this with "
            "the model's architecture."
        )
    return folded.plan, report


def _of_padding(
    model: ir.Model, changes: list[MaskChange], manifest: dict[str, Any]
) -> list[MaskChange]:
    """Undo the changes of masks that hide more than padding; return the others.

    Seen on a row as long as the model takes, without padding: there such a mask hides nothing.
    """
    if not changes:
        return []
    length = min(_LONGEST, manifest["max_length"])
    feeds = probe_feeds(manifest["inputs"], batch=1, sequence=length)
    part = conditions(model, changes)
    names = [str(value.name) for value in part.graph.outputs]
    seen = dict(zip(names, run_once(part, feeds), strict=True))
    more = [change for change in changes if change.masked(seen[change.condition])]
    for change in more:
        change.undo()
    return [change for change in changes if change not in more]
