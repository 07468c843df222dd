"""Cut the channels of a site into K groups, each with its own scale.

Per-embedding-group quantization: Bondarenko et al., EMNLP 2021 (arXiv 2109.12948), §4, cuts the
sorted channels into equal groups (`sorted`); the code behind arXiv 2603.04308 cut them unsorted
(`contiguous`). `optimal` places the cuts where they do the most good.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from qdeploy.calibrate.schemes import SYMMETRIC
from qdeploy.errors import PlanError, choose
from qdeploy.types import Array

Groups = tuple[tuple[int, ...], ...]

CONTIGUOUS, SORTED, OPTIMAL = "contiguous", "sorted", "optimal"
GROUPINGS = (CONTIGUOUS, SORTED, OPTIMAL)


def spans(low: Array, high: Array, scheme: str) -> Array:
    """What decides a channel's step, FP64 [C]: 2·max|x| (symmetric), or high − low with zero."""
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    result: Array = 2 * np.maximum(-low, high) if scheme == SYMMETRIC else high - low
    return result


def group_channels(
    low: Array, high: Array, weight: Array, k: int, *, grouping: str, scheme: str
) -> Groups:
    """Partition the C channels into at most K groups, widest group last for sorted and optimal.

    Args:
        low, high: range of each channel, FP [C].
        weight: how much noise in a channel counts, FP [C]: the squared norm of its rows in the
            weights that read it, or ones.
        k: number of groups wanted; more than C gives C.
        grouping: "contiguous", "sorted" or "optimal".
        scheme: "asymmetric" or "symmetric".

    Raises:
        PlanError: K below 1 or an unknown grouping.

    >>> low, high = np.zeros(4), np.array([1.0, 9.0, 1.0, 1.0])
    >>> group_channels(low, high, np.ones(4), 2, grouping="optimal", scheme="symmetric")
    ((0, 2, 3), (1,))
    """
    choose("grouping", grouping, GROUPINGS, PlanError)
    if k < 1:
        raise PlanError(f"--groups must be 1 or more, or 'auto'; it is {k}.")
    channels = len(low)
    k = min(k, channels)
    if grouping == CONTIGUOUS:
        parts = np.array_split(np.arange(channels), k)
    else:
        order = np.argsort(spans(low, high, scheme), kind="stable")
        if grouping == SORTED:
            parts = np.array_split(order, k)
        else:
            parts = optimal_partitions(low, high, weight, order, k, scheme)[-1]
    return as_groups(parts)


def as_groups(parts: Iterable[Array]) -> Groups:
    """Index arrays as plain sorted tuples."""
    return tuple(tuple(sorted(int(c) for c in part)) for part in parts)


def optimal_partitions(
    low: Array, high: Array, weight: Array, order: Array, most: int, scheme: str
) -> list[list[Array]]:
    """For each K in 1 … most the cut of `order` with the least Σ span(group)² · Σ weight(group).

    Exact: a dynamic programme over the sorted channels, O(most·C²), one for all K. For symmetric
    ranges no partition of any kind is better: moving a channel of smaller range to the group of the
    next larger maximum never helps, so some best partition is contiguous in sorted order. For
    asymmetric ranges it is the best among the contiguous ones.

    Args:
        low, high, weight: FP [C], as in `group_channels`.
        order: int [C], the channels by span.
        most: largest K.
        scheme: "asymmetric" or "symmetric".
    """
    cost = _run_costs(low[order], high[order], weight[order], scheme)
    best = cost[0].copy()  # best[j]: least cost of the first j channels in the groups so far
    back = np.zeros((most, len(order) + 1), np.int64)
    for group in range(1, most):
        # table[i, j]: the first i channels at their best so far, and i … j−1 as one more group.
        table = best[:, None] + cost
        back[group] = table.argmin(axis=0)
        best = table.min(axis=0)
    return [_traced(order, back, k) for k in range(1, most + 1)]


def _traced(order: Array, back: Array, k: int) -> list[Array]:
    cuts = [len(order)]
    for group in range(k - 1, 0, -1):
        cuts.append(int(back[group, cuts[-1]]))
    bounds = [0, *cuts[::-1]]
    # An empty group costs nothing: where more groups do no good there are fewer.
    return [order[a:b] for a, b in pairwise(bounds) if b > a]


def _run_costs(low: Array, high: Array, weight: Array, scheme: str) -> Array:
    """cost[i, j] of one group holding the sorted channels i … j−1; 0 for i = j, inf for i > j."""
    count = len(low)
    cost = np.full((count + 1, count + 1), np.inf)
    total = np.concatenate([[0.0], np.cumsum(weight)])
    for i in range(count):
        # All groups that begin at i: their range widens from channel to channel.
        top = np.maximum.accumulate(np.maximum(high[i:], 0.0))
        bottom = np.minimum.accumulate(np.minimum(low[i:], 0.0))
        cost[i, i + 1 :] = spans(bottom, top, scheme) ** 2 * (total[i + 1 :] - total[i])
    np.fill_diagonal(cost, 0.0)
    return cost
