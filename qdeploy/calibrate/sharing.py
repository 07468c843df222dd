"""Sites whose GEMMs read the same weights get one treatment, so that one int8 copy serves them all.

An ALBERT has one layer that it runs again and again (Lan et al. 2020, arXiv 1909.11942, §3.1).
Factors and groups change the rows of the weight behind a site: decided layer by layer they would
make a weight of its own for each. They are decided once, from the statistics of all layers
together; the scale in front, which touches no weight, stays each site's own.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np

from qdeploy.calibrate.context import Context
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.plan import PerTensor, SitePlan
from qdeploy.graph.structure import Site, Structure
from qdeploy.types import Array


def plan_sites(context: Context, treat: Callable[[Context, Site], SitePlan]) -> list[SitePlan]:
    """Treat every site of the scope; sites that share weights get the same treatment.

    Args:
        treat: the strategy's choice for one site.
    """
    done: dict[str, SitePlan] = {}
    for members in shared_sites(context):
        # the last: an ALBERT's first input comes from the embeddings, all others from a layer
        chosen = treat(replace(context, statistics=_together(context, members)), members[-1])
        done |= {site.tensor: _own(context, site, chosen, len(members)) for site in members}
    return [
        done[site.tensor] if site.tensor in done else treat(context, site) for site in context.sites
    ]


def shared_sites(context: Context) -> list[list[Site]]:
    """The sites of the scope, by the weights that they share, in graph order; only where several
    do."""
    sets: dict[str, set[str]] = {}
    readers = _readers(context.structure)
    for tensors in readers.values():
        joined = set(tensors).union(*(sets.get(tensor, set()) for tensor in tensors))
        sets |= dict.fromkeys(joined, joined)
    unique = {id(members): members for members in sets.values()}.values()
    found = [[site for site in context.sites if site.tensor in members] for members in unique]
    return sorted((f for f in found if len(f) > 1), key=lambda f: context.sites.index(f[0]))


def _readers(structure: Structure) -> dict[str, list[str]]:
    """By weight the tensors that meet it."""
    found: dict[str, list[str]] = {}
    for gemm in structure.gemms:
        found.setdefault(gemm.weight, []).append(gemm.input)
    return found


def _together(context: Context, members: list[Site]) -> dict[str, SiteStatistics]:
    """The statistics with those of all members, and of what their GEMMs give, in one.

    The last member's are replaced: what is planned from them holds for every layer.
    """
    found = dict(context.statistics)
    last = members[-1]
    found[last.tensor] = _merged(context, [site.tensor for site in members])
    outputs: dict[str, list[str]] = {}
    for site in members:
        for gemm in context.structure.consumers(site.tensor):
            outputs.setdefault(gemm.weight, []).append(gemm.output)
    for gemm in context.structure.consumers(last.tensor):
        seen = [name for name in outputs[gemm.weight] if name in context.statistics]
        if gemm.output in context.statistics:
            found[gemm.output] = _merged(context, seen)
    return found


def _merged(context: Context, tensors: list[str]) -> SiteStatistics:
    whole = deepcopy(context.statistics[tensors[0]])
    for tensor in tensors[1:]:
        whole.merge(context.statistics[tensor])
    return whole


def _own(context: Context, site: Site, chosen: SitePlan, layers: int) -> SitePlan:
    """The treatment that was chosen for all, with this site's own scale where it has one."""
    treatment = chosen.treatment
    reason = f"{chosen.reason}; as {layers} sites share these weights"
    plan = replace(chosen, name=site.name, tensor=site.tensor, reason=reason)
    if not isinstance(treatment, PerTensor):
        return plan
    statistics = context.statistics[site.tensor]
    factor: Array = np.array(treatment.pre_quant_scale or np.ones(site.channels))
    shift: Array = np.array(treatment.pre_quant_shift or np.zeros(site.channels))
    low, high = (statistics.minimum - shift) * factor, (statistics.maximum - shift) * factor
    affine = context.affine((float(low.min()), float(high.max())))
    share = context.noise.share(site, affine.scale / factor)
    return replace(plan, treatment=replace(treatment, affine=affine), sqnr_db=decibels(share))
