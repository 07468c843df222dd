"""`peg`: groups of channels with their own scale, and outlier channels in floating point.

Per-embedding-group quantization (Bondarenko et al., EMNLP 2021, arXiv 2109.12948, §4), with three
changes: the cuts are optimal, not equal; each site gets only the treatment that its noise asks for,
as each treated GEMM costs time; and factors per channel in front of one scale come first where
they cost nothing on the target (`PlanOptions.prescale`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from qdeploy.calibrate.affine import SMALLEST_SCALE
from qdeploy.calibrate.context import Context, assemble, is_gemm_input
from qdeploy.calibrate.grouping import (
    OPTIMAL,
    Groups,
    as_groups,
    group_channels,
    optimal_partitions,
    spans,
)
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.options import (
    AUTO,
    COMPENSATED,
    FOLDED,
    GEMM_SCOPE,
    NONE,
    PlanOptions,
)
from qdeploy.calibrate.plan import Grouped, PerTensor, Plan, SitePlan
from qdeploy.calibrate.pre_quant_scale import best_smoothing
from qdeploy.calibrate.sharing import plan_sites
from qdeploy.errors import PlanError
from qdeploy.graph.structure import LAYER_NORM, Site
from qdeploy.types import Array

# A GEMM input whose rounding noise is below the target (by default 30 dB below the GEMM's output,
# about what int8 weights alone add on the encoders measured) is left with one scale. One that is
# noisier is treated until it is this much below the target, so that what is left of it does
# not count among its neighbours.
_BELOW_DB = 4.0
# One more LayerNormalization takes less time than groups do, half a percent of an engine's: with
# shifts a site behind one has its factors there unless it is this much below the target without.
_NORM_DB = 6.0
# Where no GEMM reads the site (scope all) there is no output to compare with, and a scale per group
# costs the same for any K: this much below the target, of the site's own variance.
_PLAIN_DB = 10.0
_MOST_GROUPS = 8
# Of a GEMM input cut automatically one group keeps at least this share of the channels: the others
# are small additions to one wide GEMM, never a second one of its size.
_MOST_CHANNELS = 0.75
_OUTLIER_STEPS = (1, 2, 4, 8, 16)
# Order of trial, cheapest first. A second group usually joins the wide INT8 GEMM as a few repeated
# rows (docs/targets.md); outlier channels need a float GEMM of their own and a sum over the output.
_GROUP_COST, _OUTLIER_COST, _CHANNEL_COST = 1.0, 1.5, 0.05


@dataclass(frozen=True)
class _Candidate:
    groups: Groups
    outliers: tuple[int, ...]


def plan(context: Context) -> Plan:
    """Group every site of the scope, each as far as its noise asks for.

    Raises:
        PlanError: a GEMM input has fewer channels than groups were asked for.
    """
    _check_groups(context)
    sites = plan_sites(context, _treat)
    automatic = context.options.groups == AUTO and context.options.scope == GEMM_SCOPE
    if automatic or context.options.weight_rounding == COMPENSATED:
        sites = [_with_mean(context, site) for site in sites]
    return assemble(context, "peg", {site.tensor: site for site in sites})


def _check_groups(context: Context) -> None:
    """Refuse more groups than the narrowest GEMM input has channels, but for those in float."""
    k, kept = context.options.groups, context.options.float_sites
    inputs = [s for s in context.sites if is_gemm_input(s) and s.channels > 1]
    narrow = min((s for s in inputs if s.name not in kept), key=lambda s: s.channels, default=None)
    if k == AUTO or narrow is None or int(k) <= narrow.channels:
        return
    raise PlanError(
        f"--groups is {k}, and {narrow.name} has {narrow.channels} channels. Give at most "
        f"{narrow.channels}, or 'auto', or leave that site in float: --float-sites {narrow.name}."
    )


def _with_mean(context: Context, site: SitePlan) -> SitePlan:
    """With what corrects the biases behind it (Nagel et al. 2019, arXiv 1906.04721, §4.2), and
    where it is asked for the rounding of the weights."""
    seen = context.statistics[site.tensor]
    mean = tuple(float(value) for value in seen.mean)
    compensated = context.options.weight_rounding == COMPENSATED
    return replace(site, mean=mean, covariance=seen.covariance if compensated else None)


def _treat(context: Context, site: Site) -> SitePlan:
    statistics = context.statistics[site.tensor]
    if site.channels == 1:
        bounds = float(statistics.minimum.min()), float(statistics.maximum.max())
        return context.per_tensor(site, bounds, "no channels to group")
    scaled = _with_pre_quant_scale(context, site)
    if scaled is not None:
        return scaled
    tried: list[tuple[float, _Candidate]] = []
    for candidate in _candidates(context, site):
        share = context.noise.share(site, _steps(context, site, candidate))
        if share <= _target(context, site, untreated=not tried):
            return _site_plan(context, site, share, candidate)
        tried.append((share, candidate))
    below = [
        pair for pair in tried if pair[0] <= _noise_target(context, site) and is_gemm_input(site)
    ]
    best = below[0] if below else min(tried, key=lambda pair: pair[0])
    return _site_plan(context, site, *best)


def _with_pre_quant_scale(context: Context, site: Site) -> SitePlan | None:
    """One scale behind factors per channel, where they are allowed, help, and suffice."""
    options = context.options
    if options.scope != GEMM_SCOPE or not is_gemm_input(site) or options.prescale in (None, NONE):
        return None
    plain = context.noise.share(site, _steps(context, site, _whole(site)))
    # a scale per column takes what is folded into its weight
    folds = options.per_channel_weights and site.tensor in context.structure.linear_sources
    if (
        options.prescale == FOLDED
        and not folds
        and not (_normed(site) and plain > _cheap(context, site))
    ):
        return None
    best = best_smoothing(context, site, shifted=options.shift and _normed(site))
    share = best.activation + best.excess
    if share >= plain or share > _noise_target(context, site):
        return None
    reason = f"one scale behind factors per channel, α = {best.alpha}"
    return SitePlan(site.name, site.tensor, best.treatment, reason, decibels(share))


def _cheap(context: Context, site: Site) -> float:
    """Noise share above which one more LayerNormalization is worth its time."""
    return _noise_target(context, site, _NORM_DB if context.options.shift else 0.0)


def _normed(site: Site) -> bool:
    """True where one more LayerNormalization can hold factors and shifts, for little time."""
    return LAYER_NORM in site.roles


def _whole(site: Site) -> _Candidate:
    return _Candidate((tuple(range(site.channels)),), ())


def _noise_target(context: Context, site: Site, below: float = 0.0) -> float:
    """The noise share of a site's target, or of so many dB below it."""
    asked = context.options.least_db + context.sensitivity_above_mean(site) + below
    return float(10 ** (-asked / 10))


def _target(context: Context, site: Site, *, untreated: bool) -> float:
    """Noise share at which the search stops."""
    if not is_gemm_input(site):
        return _noise_target(context, site, _PLAIN_DB)
    return _noise_target(context, site, 0.0 if untreated else _BELOW_DB)


def _slim(candidate: _Candidate, site: Site) -> bool:
    """True where one group keeps most channels, so that the treatment stays a small addition."""
    return max(map(len, candidate.groups)) >= _MOST_CHANNELS * site.channels


def _candidates(context: Context, site: Site) -> Iterator[_Candidate]:
    """Treatments to try, cheapest first."""
    ks, counts = _group_counts(context.options), _outlier_counts(context.options, site)
    partitions: dict[int, dict[int, Groups]] = {}
    automatic = context.options.groups == AUTO and is_gemm_input(site)
    for k, n in sorted(product(ks, counts), key=lambda pair: _cost(*pair)):
        outliers, rest = _split_outliers(context, site, n)
        if n not in partitions:
            partitions[n] = _partitions(context, site, rest, ks)
        candidate = _Candidate(partitions[n][k], tuple(int(c) for c in outliers))
        if not automatic or _slim(candidate, site):
            yield candidate


def _cost(k: int, n: int) -> float:
    return _GROUP_COST * (k - 1) + (_OUTLIER_COST + _CHANNEL_COST * n if n else 0.0)


def _group_counts(options: PlanOptions) -> tuple[int, ...]:
    if options.groups == AUTO:
        return tuple(range(1, _MOST_GROUPS + 1))
    return (int(options.groups),)


def _outlier_counts(options: PlanOptions, site: Site) -> tuple[int, ...]:
    wanted = options.outlier_channels
    if wanted is None:
        wanted = AUTO if options.groups == AUTO else NONE
    if not is_gemm_input(site) or wanted == NONE:
        return (0,)
    if wanted == AUTO:
        return (0, *(n for n in _OUTLIER_STEPS if n < site.channels // 4))
    return (min(int(wanted), site.channels - 1),)


def _split_outliers(context: Context, site: Site, n: int) -> tuple[Array, Array]:
    """The n channels of widest range, and the others."""
    statistics = context.statistics[site.tensor]
    width = spans(statistics.minimum, statistics.maximum, context.options.scheme)
    order = np.argsort(width, kind="stable")
    cut = len(order) - n
    return np.sort(order[cut:]), np.sort(order[:cut])


def _partitions(
    context: Context, site: Site, rest: Array, ks: tuple[int, ...]
) -> dict[int, Groups]:
    """Groups of the channels `rest` for each K; one dynamic programme serves them all."""
    statistics, options = context.statistics[site.tensor], context.options
    low, high = statistics.minimum[rest], statistics.maximum[rest]
    weight = context.noise.channel_weight(site)[rest]
    if options.grouping == OPTIMAL:
        order = np.argsort(spans(low, high, options.scheme), kind="stable")
        most = min(max(ks), len(rest))
        parts = optimal_partitions(low, high, weight, order, most, options.scheme)
        return {k: as_groups(rest[p] for p in parts[min(k, most) - 1]) for k in ks}
    cut = partial(
        group_channels, low, high, weight, grouping=options.grouping, scheme=options.scheme
    )
    return {k: as_groups(rest[list(p)] for p in cut(k)) for k in ks}


def _bounds(context: Context, site: Site, group: tuple[int, ...]) -> tuple[float, float]:
    statistics, channels = context.statistics[site.tensor], list(group)
    return float(statistics.minimum[channels].min()), float(statistics.maximum[channels].max())


def _steps(context: Context, site: Site, candidate: _Candidate) -> Array:
    steps = np.zeros(site.channels)
    for group in candidate.groups:
        steps[list(group)] = context.affine(_bounds(context, site, group)).scale
    return steps


def _peaks(context: Context, site: Site, chosen: _Candidate) -> tuple[float, ...]:
    statistics, channels = context.statistics[site.tensor], list(chosen.outliers)
    peaks = np.maximum(np.abs(statistics.minimum), np.abs(statistics.maximum))[channels]
    return tuple(float(peak) for peak in np.maximum(peaks, SMALLEST_SCALE))


def _site_plan(context: Context, site: Site, share: float, chosen: _Candidate) -> SitePlan:
    affines = tuple(context.affine(_bounds(context, site, group)) for group in chosen.groups)
    if len(affines) == 1 and not chosen.outliers:
        treatment: PerTensor | Grouped = PerTensor(affines[0])
        reason = "one scale suffices"
    else:
        treatment = Grouped(chosen.groups, affines, chosen.outliers, _peaks(context, site, chosen))
        sizes = " + ".join(str(len(group)) for group in chosen.groups)
        reason = f"{len(affines)} groups ({sizes})"
        if chosen.outliers:
            reason += f", {len(chosen.outliers)} outlier channels in float"
    return SitePlan(site.name, site.tensor, treatment, reason, decibels(share))
