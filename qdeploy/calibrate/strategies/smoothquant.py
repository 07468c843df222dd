"""`smoothquant`: part of each channel's range is moved from the activation into the weight.

Xiao et al. 2023 (arXiv 2211.10438), equation 4: s_c = max|x_c|^α / max|W_c|^(1−α); the activation
is divided by s and the weight's rows multiplied by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.calibrate.context import Context, assemble, is_gemm_input
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.options import AUTO
from qdeploy.calibrate.plan import PerTensor, Plan, SitePlan
from qdeploy.calibrate.ranges import minmax
from qdeploy.calibrate.structure import Site

Array = npt.NDArray[Any]

_GRID = tuple(i / 20 for i in range(0, 20))


def plan(context: Context) -> Plan:
    """Pre-scaled GEMM inputs; any other site of the scope as in w8a8."""
    sites = [_smoothed(context, site) for site in context.sites]
    return assemble(context, "smoothquant", {site.tensor: site for site in sites})


def _smoothed(context: Context, site: Site) -> SitePlan:
    bounds = minmax(context.statistics[site.tensor])
    if not is_gemm_input(site) or site.channels == 1:
        return context.per_tensor(site, bounds, "w8a8 (no GEMM behind it)")
    chosen = context.options.alpha
    alphas = _GRID if chosen == AUTO else (float(chosen),)
    scored = [(_noise(context, site, smoothing(context, site, a)), a) for a in alphas]
    share, alpha = min(scored)
    scale = smoothing(context, site, alpha)
    statistics = context.statistics[site.tensor]
    affine = context.affine(
        (float((statistics.minimum / scale).min()), float((statistics.maximum / scale).max()))
    )
    prescale = tuple(float(v) for v in (1 / scale).astype(np.float32))
    return SitePlan(
        site.name, site.tensor, PerTensor(affine, prescale), f"α = {alpha}", decibels(share)
    )


def smoothing(context: Context, site: Site, alpha: float) -> Array:
    """s_c of equation 4, FP64 [C], normalised so that its geometric mean is 1."""
    activation = np.maximum(context.statistics[site.tensor].absolute, 1e-5)
    rows = [
        np.abs(context.weights[g.weight]).max(axis=1)
        for g in context.structure.consumers(site.tensor)
    ]
    weight = np.maximum(np.max(rows, axis=0).astype(np.float64), 1e-5)
    scale = activation**alpha / weight ** (1 - alpha)
    result: Array = scale / np.exp(np.log(scale).mean())
    return result


def _noise(context: Context, site: Site, scale: Array) -> float:
    """Noise share of activation and weights together, once scaled by s."""
    statistics = context.statistics[site.tensor]
    affine = context.affine(
        (float((statistics.minimum / scale).min()), float((statistics.maximum / scale).max()))
    )
    activation = context.noise.share(site, affine.scale * scale)
    power = float((statistics.power / scale**2).sum())
    before = float(statistics.power.sum())
    ratio = []
    for gemm in context.structure.consumers(site.tensor):
        weight = context.weights[gemm.weight]
        per_channel = context.options.per_channel_weights
        _, plain = quantize_weight(weight, per_channel=per_channel)
        _, scaled = quantize_weight(weight * scale[:, None], per_channel=per_channel)
        ratio.append(float((scaled**2).sum() / (plain**2).sum()))
    weights = context.noise.weight_noise(site) * power / before * float(np.mean(ratio))
    return activation + weights
