"""Reorder channels at no run-time cost by folding the permutation into the weights around them.

Reordering puts the channels of each group side by side, so that a Slice takes them and no Gather is
needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.plan import Grouped, PerTensor, Plan, SitePlan, Treatment
from qdeploy.deploy.passes.base import Pass, PassResult, Report
from qdeploy.deploy.passes.channel_sets import Axis, ChannelSets
from qdeploy.graph.structure import Structure
from qdeploy.types import Array


@dataclass(frozen=True)
class PermuteChannels(Pass):
    """The channels of each group come to lie side by side, wherever their order is free.

    1. Assumes an FP32 graph whose plan names channels by their place.
    2. Reorders every free set of channels (`ChannelSets`) of which a site is grouped: along each
       axis of a constant that belongs to it. The plan's groups, outlier channels,
       pre-quantization scales and means follow.
    3. Guarantees that each output is a sum of the same numbers in another order.
    4. Leaves sets that something freezes: their groups are gathered at run time.
    5. Applied again it finds the order that it made, but where two groups of a site are equally
       large: then the last one may change places with the others.
    """

    name = "permute_channels"
    action = "Folding a channel permutation"
    required = True  # the plan's channel indices are those of the new order
    nothing: ClassVar[Report] = {"channel_orders": {}}

    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Reorder the constants; see `Pass.apply`.

        The report has per reordered set, named after its first site, the original index of the
        channel at each place: {"channel_orders": {site: [index]}}.
        """
        if not any(isinstance(site.treatment, Grouped) for site in plan.sites.values()):
            return self.leave(plan, "no site has groups of channels")
        sets = ChannelSets(model, structure)
        sites, orders = dict(plan.sites), dict[str, list[int]]()
        # One order for all sites of a set: the residual stream of all layers is one set.
        for root, members in _members(sets, plan, structure).items():
            grouped = [p.treatment for p in members if isinstance(p.treatment, Grouped)]
            if not grouped:
                continue
            order = channel_order(grouped)
            sets.reorder(root, order)
            orders[members[0].name] = [int(c) for c in order]
            for member in members:
                sites[member.tensor] = _reordered(member, order)
        if not orders:
            return self.leave(plan, "no set of channels with groups is free")
        moved = replace(plan, sites=sites)
        modified = moved != plan or any(order != sorted(order) for order in orders.values())
        reason = "" if modified else "the channels lie in order"
        return PassResult(modified, moved, {"channel_orders": orders}, reason)


def _members(sets: ChannelSets, plan: Plan, structure: Structure) -> dict[Axis, list[SitePlan]]:
    """The planned sites of each free set."""
    members: dict[Axis, list[SitePlan]] = {}
    for site in structure.sites:
        root = sets.free_set(site.tensor)
        if root is not None and site.tensor in plan.sites:
            members.setdefault(root, []).append(plan.sites[site.tensor])
    return members


def channel_order(treatments: list[Grouped]) -> Array:
    """Channels that most treatments single out first, those with equal treatment side by side.

    One grouped site gets its groups as runs. Several share one order: channels are sorted by how
    often they stand outside the largest group, then by their group at each site.
    """
    channels = sum(map(len, treatments[0].groups)) + len(treatments[0].outlier_channels)
    # Per treatment the group of each channel: 0 for the largest, outlier channels last.
    labels = np.zeros((len(treatments), channels), np.int64)
    for row, treatment in zip(labels, treatments, strict=True):
        ranked = sorted(treatment.groups, key=lambda group: (-len(group), group))
        for index, group in enumerate(ranked):
            row[list(group)] = index
        row[list(treatment.outlier_channels)] = len(ranked)
    # Sorted upwards: first the channels that most treatments single out, then rare patterns of
    # labels before frequent ones, and equal patterns side by side.
    special = -(labels > 0).sum(axis=0)
    patterns = Counter(map(tuple, labels.T))
    keys = [
        (special[c], patterns[tuple(labels[:, c])], tuple(labels[:, c])) for c in range(channels)
    ]
    return np.array(sorted(range(channels), key=lambda c: (*keys[c], c)))


def _reordered(site: SitePlan, order: Array) -> SitePlan:
    mean = tuple(site.mean[int(c)] for c in order) if site.mean else ()
    covariance = None if site.covariance is None else site.covariance[np.ix_(order, order)]
    treatment = _renamed(site.treatment, order)
    return replace(site, treatment=treatment, mean=mean, covariance=covariance)


def _renamed(treatment: Treatment, order: Array) -> Treatment:
    """The same treatment in the new order of the channels."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def moved(channels: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(int(place[c]) for c in channels))

    if isinstance(treatment, Grouped):
        groups = tuple(moved(group) for group in treatment.groups)
        outliers = treatment.outlier_channels
        by_place = sorted(range(len(outliers)), key=lambda index: place[outliers[index]])
        peaks = treatment.outlier_peaks and tuple(treatment.outlier_peaks[i] for i in by_place)
        return replace(
            treatment, groups=groups, outlier_channels=moved(outliers), outlier_peaks=peaks
        )
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        scale, shift = treatment.pre_quant_scale, treatment.pre_quant_shift
        return replace(
            treatment,
            pre_quant_scale=tuple(scale[int(c)] for c in order),
            pre_quant_shift=tuple(shift[int(c)] for c in order) if shift else (),
        )
    return treatment
