"""How many of the 256 levels a site's values use, under one scale and under its treatment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import Affine, quantize
from qdeploy.calibrate.observe import observed_rows
from qdeploy.calibrate.plan import Grouped, Plan
from qdeploy.calibrate.structure import Site

Array = npt.NDArray[Any]

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
    affines: Mapping[str, Affine],
    plan: Plan,
    batches: Iterable[Mapping[str, Array]],
    *,
    threads: int = 2,
) -> dict[str, dict[str, Any]]:
    """Levels of some sites before and after, by tensor name; channels in float are left out after.

    Args:
        affines: the one scale of each site.
        plan: the treatments.

    Returns:
        `before` and `after`: each `counts` [511] and `used` (`levels_used`).
    """
    empty = np.zeros(2 * SPAN + 1, np.int64)
    counts = {site.tensor: [empty.copy(), empty.copy()] for site in sites}
    for site, x, _ in observed_rows(model, sites, batches, threads=threads):
        one = affines[site.tensor]
        before, after = counts[site.tensor]
        before += level_counts(x, one.scale, one.zero_point)
        kept, scale, zero = _per_channel(plan, site, one)
        after += level_counts(x[:, kept], scale[kept], zero[kept])
    return {
        tensor: {
            name: {"counts": found.tolist(), "used": round(levels_used(found), 1)}
            for name, found in zip(("before", "after"), pair, strict=True)
        }
        for tensor, pair in counts.items()
    }


def _per_channel(plan: Plan, site: Site, one: Affine) -> tuple[Array, Array, Array]:
    """Channels that get codes, and scale FP32 [C] and zero point int64 [C] of each."""
    scale = np.full(site.channels, one.scale, np.float32)
    zero = np.full(site.channels, one.zero_point, np.int64)
    kept = np.ones(site.channels, bool)
    treatment = plan.treatment(site.tensor)
    if isinstance(treatment, Grouped):
        for group, affine in zip(treatment.groups, treatment.affines, strict=True):
            scale[list(group)], zero[list(group)] = affine.scale, affine.zero_point
        kept[list(treatment.outlier_channels)] = False
    return np.flatnonzero(kept), scale, zero
