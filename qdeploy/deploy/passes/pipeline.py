"""Passes over the FP32 graph before a plan is lowered, and the proof that nothing changed by them.

The comparison runs the whole model, which is most of the time of a build's lowering. So all passes
are applied to one clone first, and that is compared once. Only where a pass objects to what was
found, each is applied and compared by itself, always with the original, so that no error adds up
unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.passes.attention_mask import LightenMasks
from qdeploy.deploy.passes.base import Pass, PassResult, Report, Verdict
from qdeploy.deploy.passes.equivalence import ModelInputs, Reference, padded_feeds
from qdeploy.deploy.passes.fold_scales import FoldScales
from qdeploy.deploy.passes.permute_channels import PermuteChannels
from qdeploy.errors import VerificationError
from qdeploy.graph.structure import Structure


@dataclass(frozen=True)
class Rewritten:
    """A graph, its plan, and what each pass did on the way to them.

    Attributes:
        model: the graph that was given where nothing was changed, else another.
        plan: of that graph.
        results: by the name of the pass, in the order of application; `modified` is False for one
            that was dropped.
    """

    model: ir.Model
    plan: Plan
    results: dict[str, PassResult]

    @property
    def report(self) -> Report:
        """What plan.json says of all of them."""
        return {key: value for r in self.results.values() for key, value in r.report.items()}


def passes_for(inputs: ModelInputs, *, fold: bool) -> tuple[Pass, ...]:
    """The passes of a target, in the order of application.

    Masks come last: how much attention leaks is then measured on the graph that is lowered.

    Args:
        inputs: of the model.
        fold: take pre-quantization scales out of the graph where that is possible; where a target
            multiplies for nothing they stay.
    """
    return (PermuteChannels(), FoldScales(wanted=fold), LightenMasks(inputs))


def run_passes(
    passes: Sequence[Pass], model: ir.Model, plan: Plan, structure: Structure, inputs: ModelInputs
) -> Rewritten:
    """Apply passes, and keep what computes the same on a padded batch of random tokens.

    Args:
        model: canonical FP32 graph; it is not changed.
        plan: of that graph.
        structure: of that graph; it holds for the rewritten one too.
        inputs: of the model.

    Raises:
        VerificationError: a pass that the plan counts on changed an output by more than it may.
    """
    reference = Reference(model, padded_feeds(model, inputs))
    done = Rewritten(model, plan, {})
    pending = [tuple(passes)]
    while pending:
        batch = pending.pop(0)
        tried = _applied(batch, done, structure)
        verdicts = _verdicts(batch, tried, reference)
        # All at once first. Where one is refused each gets a batch of its own, and starts from what
        # was kept before it.
        refused = [each for each in batch if not verdicts[each.name].kept]
        if not refused:
            done = _judged(tried, verdicts)
        elif len(batch) > 1:
            pending = [(each,) for each in batch] + pending
        else:
            (each,) = refused
            verdict = verdicts[each.name]
            if each.required:
                text = f"{verdict.reason}. Report this with the model's architecture."
                raise VerificationError(text)
            # Graph and plan stay those from before this pass; its report says why.
            dropped = PassResult(False, done.plan, verdict.report, verdict.reason)
            done = Rewritten(done.model, done.plan, done.results | {each.name: dropped})
    return done


def _applied(batch: Sequence[Pass], before: Rewritten, structure: Structure) -> Rewritten:
    """Every pass of a batch on one clone."""
    model, plan, results = before.model.clone(), before.plan, dict(before.results)
    for each in batch:
        result = each.apply(model, plan, structure)
        results[each.name] = result
        plan = result.plan
    if not any(results[each.name].modified for each in batch):
        # Nothing was changed: the clone goes.
        model = before.model
    return Rewritten(model, plan, results)


def _verdicts(batch: Sequence[Pass], tried: Rewritten, reference: Reference) -> dict[str, Verdict]:
    """Each pass's own judgement of what they did together; nothing runs where that is nothing."""
    results = {each: tried.results[each.name] for each in batch}
    verdicts = {each.name: Verdict(True, result.report) for each, result in results.items()}
    modified = [each for each, result in results.items() if result.modified]
    if modified:
        # One run of each graph serves all passes: what any of them watches is an output of it.
        watched = dict.fromkeys(name for each in modified for name in results[each].watched)
        found = reference.compare(tried.model, tuple(watched))
        verdicts |= {each.name: each.judge(results[each], found) for each in modified}
    return verdicts


def _judged(tried: Rewritten, verdicts: dict[str, Verdict]) -> Rewritten:
    """The same, with the reports that the comparison completed."""
    results = dict(tried.results)
    for name, verdict in verdicts.items():
        results[name] = replace(results[name], report=verdict.report)
    return Rewritten(tried.model, tried.plan, results)
