"""What a strategy may look at, and the parts that all strategies share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import Affine, affine_from_range
from qdeploy.calibrate.noise import NoiseModel, decibels
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.options import GEMM_SCOPE, PlanOptions
from qdeploy.calibrate.plan import (
    FLOAT,
    FP8,
    INT8,
    Dynamic,
    Float,
    GemmPlan,
    PerTensor,
    Plan,
    SitePlan,
    Treatment,
)
from qdeploy.calibrate.ranges import Range
from qdeploy.calibrate.schemes import E4M3
from qdeploy.graph.constants import constant
from qdeploy.graph.structure import GEMM_INPUT, Gemm, Site, Structure
from qdeploy.schemas.fields import Precision
from qdeploy.types import Array

# A GEMM below this share of the GEMM FLOPs (pooler and classifier run on one token, or have a
# handful of outputs) has nothing to win in scope gemm and stays in float, unless its weight is more
# than that share of all weights: the pooler of an ALBERT, whose layers share theirs, is 5 % of it.
NEGLIGIBLE_FLOPS, NEGLIGIBLE_WEIGHT = 0.001, 0.04
# A table below this many numbers (token types: 2 rows) saves nothing.
SMALL_TABLE = 16_384
# What a site's sensitivity may move its noise target by, dB. Weights add noise too, and soften what
# the input of their GEMM can mend.
MOST_SENSITIVITY = 6.0
UNHEARD = -100.0  # dB; noise that comes out weaker than this is not heard beside FP32's own


@dataclass(frozen=True)
class Context:
    """Everything a plan is made from.

    Attributes:
        structure: sites, GEMMs and tables.
        statistics: by tensor name; empty for strategies that need none.
        weights: FP32 [K, N] by initializer name.
        options: the user's choices.
    """

    structure: Structure
    statistics: Mapping[str, SiteStatistics]
    weights: Mapping[str, Array]
    options: PlanOptions

    @cached_property
    def noise(self) -> NoiseModel:
        """Expected noise of any treatment."""
        return NoiseModel(
            self.structure,
            self.statistics,
            self.weights,
            per_channel_weights=self.options.per_channel_weights,
        )

    @cached_property
    def gemms(self) -> tuple[Gemm, ...]:
        """The GEMMs that the scope quantizes."""
        if self.options.scope != GEMM_SCOPE:
            return self.structure.gemms
        total = self.structure.other_flops + sum(g.flops for g in self.structure.gemms)
        stored = {g.weight: g.k * g.n for g in self.structure.gemms}
        stored |= {t.weight: t.rows * t.columns for t in self.structure.tables}
        work = NEGLIGIBLE_FLOPS * total
        size = NEGLIGIBLE_WEIGHT * (self.structure.other_weights + sum(stored.values()))
        return tuple(g for g in self.structure.gemms if g.flops >= work or g.k * g.n > size)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The sites that the scope quantizes, in graph order."""
        if self.options.scope != GEMM_SCOPE:
            return self.structure.sites
        inputs = {gemm.input for gemm in self.gemms}
        return tuple(site for site in self.structure.sites if site.tensor in inputs)

    @cached_property
    def _sensitivity(self) -> dict[str, float]:
        """Of the sites of the scope, dB, where it was measured and is asked for."""
        if not self.options.sensitivity:
            return {}
        seen = {site.tensor: self.statistics[site.tensor].sensitivity for site in self.sites}
        return {tensor: level for tensor, level in seen.items() if level is not None}

    def sensitivity_above_mean(self, site: Site) -> float:
        """How much more than on average of a site's noise comes out of the model, dB.

        Between −`MOST_SENSITIVITY` and `MOST_SENSITIVITY`; 0 where it was not measured. Sites
        whose noise changes no answer (behind weights of zero) do not count for the mean.
        """
        levels = self._sensitivity
        heard = [level for level in levels.values() if level > UNHEARD]
        if site.tensor not in levels or not heard:
            return 0.0
        above = levels[site.tensor] - float(np.mean(heard))
        return float(np.clip(above, -MOST_SENSITIVITY, MOST_SENSITIVITY))

    def affine(self, bounds: Range) -> Affine:
        """Scale and zero point of a range, in the chosen scheme."""
        return affine_from_range(*bounds, self.options.scheme)

    def per_tensor(self, site: Site, bounds: Range, reason: str) -> SitePlan:
        """A site with one scale, and its expected noise."""
        affine = self.affine(bounds)
        share = self.noise.share(site, np.full(site.channels, affine.scale))
        return SitePlan(site.name, site.tensor, PerTensor(affine), reason, decibels(share))


def weights_of(model: ir.Model, structure: Structure) -> dict[str, Array]:
    """FP32 weights [K, N] of every GEMM, by initializer name, upright."""
    found: dict[str, Array] = {}
    for gemm in structure.gemms:
        array = constant(model.graph.initializers[gemm.weight])
        assert array is not None
        found[gemm.weight] = array.T if gemm.transposed else array
    return found


def static_plan(context: Context, strategy: str, range_of: Callable[[Site], Range]) -> Plan:
    """The plan of a strategy that gives each site one scale from a range."""
    plans = [context.per_tensor(site, range_of(site), strategy) for site in context.sites]
    return assemble(context, strategy, {plan.tensor: plan for plan in plans})


def assemble(
    context: Context, strategy: str, sites: dict[str, SitePlan], activations: str | None = None
) -> Plan:
    """The whole plan around the treatments of the sites.

    A GEMM is int8 when its input is, or FP8; embedding tables are always int8 here, but for FP8.

    Args:
        activations: how they are coded; as the options say when left out.
    """
    activations = activations or context.options.scheme
    tables = [t.name for t in context.structure.tables if t.rows * t.columns >= SMALL_TABLE]
    return Plan(
        strategy=strategy,
        scope=context.options.scope,
        activations=activations,
        per_channel_weights=context.options.per_channel_weights,
        sites=sites,
        gemms={
            gemm.name: _gemm_plan(context, gemm, sites, FP8 if activations == E4M3 else INT8)
            for gemm in context.structure.gemms
        },
        tables=() if activations == E4M3 else tuple(tables),
        options=context.options.to_json() | {"activations": activations},
    )


def _gemm_plan(
    context: Context, gemm: Gemm, sites: Mapping[str, SitePlan], precision: Precision
) -> GemmPlan:
    if gemm not in context.gemms:
        reason = f"below {100 * NEGLIGIBLE_FLOPS} % of the GEMM FLOPs: nothing to gain"
        return GemmPlan(gemm.name, gemm.weight, FLOAT, reason)
    site = sites.get(gemm.input)
    treatment: Treatment = Float() if site is None else site.treatment
    if isinstance(treatment, Float):
        reason = "input stays in float" if site is None else site.reason
        return GemmPlan(gemm.name, gemm.weight, FLOAT, reason)
    kind = "scale found at run time" if isinstance(treatment, Dynamic) else "static scale"
    return GemmPlan(gemm.name, gemm.weight, precision, kind)


def is_gemm_input(site: Site) -> bool:
    """True where the tensor feeds a constant-weight GEMM."""
    return GEMM_INPUT in site.roles
