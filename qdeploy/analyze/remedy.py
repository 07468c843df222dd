"""The fewest groups that mend a site, measured: K rises until the logits no longer feel it."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdeploy.analyze.costs import Costs, Steps
from qdeploy.calibrate.context import Context
from qdeploy.calibrate.grouping import OPTIMAL, group_channels
from qdeploy.calibrate.structure import Site

# Logit SQNR that a site alone may bring about: int8 weights by themselves leave about 30 dB.
ENOUGH_DB = 30.0
MOST_GROUPS = 8


def grouped_steps(context: Context, site: Site, k: int) -> Steps:
    """Scale FP32 [C] and zero point uint8 [C] of a site cut into K optimal groups."""
    statistics, scheme = context.statistics[site.tensor], context.options.activations
    low, high = statistics.minimum, statistics.maximum
    weight = context.noise.channel_weight(site)
    groups = group_channels(low, high, weight, k, grouping=OPTIMAL, scheme=scheme)
    scale, zero = np.ones(site.channels, np.float32), np.zeros(site.channels, np.uint8)
    for group in groups:
        chosen = list(group)
        affine = context.affine((float(low[chosen].min()), float(high[chosen].max())))
        scale[chosen], zero[chosen] = affine.scale, affine.zero_point
    return scale, zero


def fewest_groups(context: Context, site: Site, costs: Costs) -> dict[str, Any]:
    """What the logits are left with for K = 1, 2, … groups, up to the first K that is enough.

    Returns:
        `groups` (K, or None where even the most are too few) and `sqnr_db` by K.
    """
    found: dict[str, float] = {}
    for k in range(1, min(MOST_GROUPS, site.channels) + 1):
        found[str(k)] = costs.sqnr_db({site.tensor: grouped_steps(context, site, k)})
        if found[str(k)] >= ENOUGH_DB:
            return {"groups": k, "sqnr_db": found}
    return {"groups": None, "sqnr_db": found}
