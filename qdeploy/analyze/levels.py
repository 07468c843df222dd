"""How many of the 256 levels a site's values use, under one scale and under its treatment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qdeploy.analyze.rounding import rounding_of
from qdeploy.calibrate.affine import quantize
from qdeploy.calibrate.observe import observed_rows
from qdeploy.calibrate.plan import Plan
from qdeploy.graph.structure import Site
from qdeploy.schemas.analysis import Levels, UsedLevels
from qdeploy.types import Array

SPAN = 255  # code − zero point lies in −255 … 255


def level_counts(x: Array, scale: Array | float, zero_point: Array | int) -> Array:
    """How often each level code − zero point stands, int64 [511], from −255 up.

    Args:
        x: FP32 [rows, C].
        scale, zero_point: scalars, or [C].
    """
    levels = quantize(x, scale, zero_point).astype(np.int64) - zero_point
    return np.bincount(levels.ravel() + SPAN, minlength=2 * SPAN + 1)


def levels_used(counts: Array) -> float:
    """2 to the entropy of the levels: as many equally frequent ones carry as much."""
    p = counts[counts > 0] / counts.sum()
    return float(np.exp2(-(p * np.log2(p)).sum()))


def compare_levels(
    model: ir.Model,
    sites: Sequence[Site],
    plain: Plan,
    treated: Plan,
    batches: Iterable[Mapping[str, Array]],
    *,
    threads: int = 2,
) -> dict[str, Levels]:
    """Levels of some sites before and after, by tensor name; channels in float are left out after.

    Args:
        plain: one scale for each site.
        treated: another plan of the same sites.

    Returns:
        `before` and `after`: each `counts` [511] and `used` (`levels_used`).
    """
    if not sites:
        return {}
    empty = np.zeros(2 * SPAN + 1, np.int64)
    counts = {site.tensor: [empty.copy(), empty.copy()] for site in sites}
    for site, x, _ in observed_rows(model, sites, batches, threads=threads):
        for plan, sums in zip((plain, treated), counts[site.tensor], strict=True):
            sums += _counts_of(plan, site, x)
    return {
        tensor: {"before": _used(before), "after": _used(after)}
        for tensor, (before, after) in counts.items()
    }


def _used(counts: Array) -> UsedLevels:
    return {"counts": counts.tolist(), "used": round(levels_used(counts), 1)}


def _counts_of(plan: Plan, site: Site, x: Array) -> Array:
    """Levels of the channels that a plan gives codes, int64 [511]."""
    rounding = rounding_of(plan.treatment(site.tensor), site.channels)
    if rounding is None:
        return np.zeros(2 * SPAN + 1, np.int64)
    coded = np.ones(site.channels, bool)
    coded[list(rounding.exact)] = False
    scale = np.broadcast_to(rounding.scale, site.channels)[coded]
    zero = np.broadcast_to(rounding.zero_point, site.channels)[coded].astype(np.int64)
    return level_counts(x[:, coded], scale, zero)
