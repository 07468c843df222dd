"""Everything of an analysis that runs the model, in the order that a short time is best spent in.

First whole plans, which say what is at stake. Then single sites, those first of which the
statistics expect most noise; what mends the costly ones; and last what each is worth in company.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from qdeploy.analyze.costs import Costs
from qdeploy.analyze.outcome import Outcome
from qdeploy.analyze.remedy import ENOUGH_DB, fewest_groups
from qdeploy.analyze.rounding import Rounding, roundings_of
from qdeploy.analyze.segments import SegmentedModel
from qdeploy.calibrate.context import Context
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.options import ALL_SCOPE, FOLDED, GEMM_SCOPE, NONE
from qdeploy.calibrate.strategies import make_plan
from qdeploy.head import Head
from qdeploy.schemas.analysis import MeasuredCost, MeasuredPlan, SiteRemedy
from qdeploy.types import Array, Progress

Feeds = Mapping[str, Array]
Roundings = dict[str, Rounding]
W8A8, PEG = "w8a8", "peg"
_PLANS = "whole plans"


@dataclass(frozen=True)
class Measured:
    """What was found, by tensor name where it is of a site; sites that time ran out for are absent.

    Attributes:
        answers: how many answers could change; None where the head answers with values.
        plans: whole plans, `w8a8` of the asked scope first: "strategy", "scope", "sites" (how many
            are rounded), "float_sites", and what `Outcome` has.
        costs: "alone_db", "flipped", "flip_percent".
        gains: dB that the logits gain when a site alone is in float and all others in 8 bits.
        remedies: of costly sites; see `_Sites.mend`.
    """

    answers: int | None
    plans: list[MeasuredPlan]
    costs: dict[str, MeasuredCost]
    gains: dict[str, float]
    remedies: dict[str, SiteRemedy]


def as_built(context: Context) -> Context:
    """The context as `build` has it for the default target, which takes factors that fold away."""
    pre_quant_scale = FOLDED if context.options.scope == GEMM_SCOPE else NONE
    return replace(context, options=replace(context.options, prescale=pre_quant_scale))


def measure(
    model: ir.Model,
    context: Context,
    batches: Sequence[Feeds],
    head: Head,
    *,
    threads: int = 2,
    seconds: float = math.inf,
    progress: Progress | None = None,
) -> Measured:
    """Run the model with whole plans, and then with single sites, in 8 bits.

    Args:
        model: canonical FP32 graph.
        context: its sites in the asked scope.
        batches: int64 [B, S] feeds.
        head: what its logits mean.
        threads: sites that are measured side by side.
        seconds: after so long no further site is begun; whole plans are measured in any case.
        progress: called with a stage, how much of it is done, and of how much.
    """
    tell = progress or (lambda stage, done, total: None)
    tell(_PLANS, 0, 2)
    segmented = SegmentedModel(model, context.structure)
    plain = _roundings(W8A8, context)
    everywhere = context.options.scope == ALL_SCOPE
    costs = Costs(
        *(segmented, batches, head, plain),
        everywhere=everywhere,
        threads=threads,
        seconds=seconds,
    )
    sites = _Sites(context, costs, plain, _roundings(PEG, as_built(context)))
    plans = sites.whole_plans()
    tell(_PLANS, 2, 2)
    alone = costs.each(sites.noisiest_first(), sites.alone, "cost of each site", progress)
    order = sorted(plain, key=lambda t: alone[t].sqnr_db if t in alone else math.inf)
    costly = [t for t in order if t in alone and alone[t].sqnr_db < ENOUGH_DB]
    remedies = costs.each(
        costly, lambda t: sites.mend(t, alone[t].sqnr_db), "what mends the costly ones", progress
    )
    if left := [t for t, remedy in remedies.items() if remedy["peg_db"] < ENOUGH_DB]:
        plans.append(sites.with_floats(left))
    gains = costs.each(order, sites.gain, "gain of each site in float", progress)
    found = {t: _cost(outcome) for t, outcome in alone.items()}
    return Measured(costs.reference.answers, plans, found, gains, remedies)


@dataclass(frozen=True)
class _Sites:
    """Sites of a scope under one scale each (`plain`) and under the treatments of `peg`."""

    context: Context
    costs: Costs
    plain: Roundings
    treated: Roundings

    def whole_plans(self) -> list[MeasuredPlan]:
        """Both plans of the scope; where that is not every activation, of every activation too."""
        scope, together = self.context.options.scope, self.costs.together
        plans = [
            _plan(W8A8, scope, self.plain, self.costs.whole),
            _plan(PEG, scope, self.treated, together(self.treated)),
        ]
        if scope != ALL_SCOPE:
            options = replace(self.context.options, scope=ALL_SCOPE)
            for strategy in (W8A8, PEG):
                rounded = _roundings(strategy, replace(self.context, options=options))
                outcome = together(rounded, everywhere=True)
                plans.append(_plan(strategy, ALL_SCOPE, rounded, outcome))
        return plans

    def noisiest_first(self) -> list[str]:
        """Sites by the noise that their statistics let expect."""
        expected = make_plan(W8A8, self.context).sites
        return sorted(self.plain, key=lambda tensor: expected[tensor].sqnr_db or 0.0)

    def alone(self, tensor: str) -> Outcome:
        """A site alone under one scale."""
        return self.costs.alone(tensor, self.plain[tensor])

    def gain(self, tensor: str) -> float:
        """What the logits gain when it alone stays in float, dB."""
        return round(self.costs.without(tensor).sqnr_db - self.costs.whole.sqnr_db, 2)

    def mend(self, tensor: str, alone_db: float) -> SiteRemedy:
        """What is left of the logits when a costly site alone is treated.

        Returns:
            `groups` and `sqnr_db` of `fewest_groups`; `peg_db` with the treatment of `peg`.
        """
        site = self.context.structure.by_tensor[tensor]
        treated = self.treated.get(tensor)

        def sqnr_db(rounding: Rounding) -> float:
            return self.costs.alone(tensor, rounding).sqnr_db

        peg_db = decibels(0) if treated is None else sqnr_db(treated)
        return {**fewest_groups(self.context, site, alone_db, sqnr_db), "peg_db": peg_db}

    def with_floats(self, tensors: Sequence[str]) -> MeasuredPlan:
        """The plan of `peg` with some sites in float."""
        rounded = {t: how for t, how in self.treated.items() if t not in tensors}
        names = [self.context.structure.by_tensor[t].name for t in tensors]
        outcome = self.costs.together(rounded)
        return _plan(PEG, self.context.options.scope, rounded, outcome, names)


def _roundings(strategy: str, context: Context) -> Roundings:
    channels = {site.tensor: site.channels for site in context.sites}
    return roundings_of(make_plan(strategy, context), channels)


def _plan(
    strategy: str, scope: str, rounded: Roundings, outcome: Outcome, float_sites: Sequence[str] = ()
) -> MeasuredPlan:
    return {
        "strategy": strategy,
        "scope": scope,
        "sites": len(rounded),
        "float_sites": list(float_sites),
        "sqnr_db": outcome.sqnr_db,
        "flipped": outcome.flipped,
        "flip_percent": outcome.flip_percent,
    }


def _cost(outcome: Outcome) -> MeasuredCost:
    return {
        "alone_db": outcome.sqnr_db,
        "flipped": outcome.flipped,
        "flip_percent": outcome.flip_percent,
    }
