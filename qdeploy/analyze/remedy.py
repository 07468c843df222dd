"""The fewest groups that mend a site, measured: around the K that the statistics expect."""

from __future__ import annotations

from collections.abc import Callable

from qdeploy.analyze.rounding import Rounding, rounding_of
from qdeploy.calibrate.context import Context
from qdeploy.calibrate.grouping import OPTIMAL, group_channels
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.plan import Grouped
from qdeploy.graph.structure import Site
from qdeploy.schemas.analysis import FewestGroups

# Logit SQNR that a site alone may bring about: int8 weights by themselves leave about 30 dB.
ENOUGH_DB = 30.0
MOST_GROUPS = 8


def grouped(context: Context, site: Site, k: int) -> Rounding:
    """The rounding of a site cut into K optimal groups."""
    statistics, scheme = context.statistics[site.tensor], context.options.scheme
    low, high = statistics.minimum, statistics.maximum
    weight = context.noise.channel_weight(site)
    groups = group_channels(low, high, weight, k, grouping=OPTIMAL, scheme=scheme)
    chosen = tuple(tuple(int(c) for c in group) for group in groups)
    bounds = [(float(low[list(g)].min()), float(high[list(g)].max())) for g in chosen]
    rounding = rounding_of(
        Grouped(chosen, tuple(context.affine(range_) for range_ in bounds)), site.channels
    )
    assert rounding is not None
    return rounding


def fewest_groups(
    context: Context, site: Site, alone_db: float, measure: Callable[[Rounding], float]
) -> FewestGroups:
    """The least K whose groups leave the logits enough.

    The noise of K groups over that of one scale is known from the statistics, and so is about where
    the logits come to lie. The search begins there, and goes down or up by what it measures.

    Args:
        alone_db: logit SQNR under one scale, as measured.
        measure: logit SQNR under a rounding of this site alone.

    Returns:
        `groups` (K, or None where even the most are too few) and `sqnr_db` by K that was measured.
    """
    ks = range(1, min(MOST_GROUPS, site.channels) + 1)
    roundings = {k: grouped(context, site, k) for k in ks}
    noise = {k: decibels(context.noise.share(site, r.scale)) for k, r in roundings.items()}
    found = {1: alone_db}

    def enough(k: int) -> bool:
        if k not in found:
            found[k] = measure(roundings[k])
        return found[k] >= ENOUGH_DB

    k = next((k for k in ks if alone_db + noise[k] - noise[1] >= ENOUGH_DB), ks[-1])
    while k > 1 and enough(k - 1):
        k -= 1
    while k < ks[-1] and not enough(k):
        k += 1
    reached = k if enough(k) else None
    return {"groups": reached, "sqnr_db": {str(k): found[k] for k in sorted(found)}}
