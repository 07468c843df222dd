"""Factors per channel that move range from an activation into the weight behind it.

Xiao et al. 2023 (arXiv 2211.10438), equation 4: s_c = max|x_c|^α / max|W_c|^(1−α); the activation
is divided by s and the weight's rows multiplied by it. With shifts the middle of each channel's
range is taken off first (Wei et al. 2023, arXiv 2304.09145, equation 3), and |x_c| is then half the
width of the range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.calibrate.context import Context
from qdeploy.calibrate.plan import PerTensor
from qdeploy.graph.structure import Site
from qdeploy.types import Array

GRID = tuple(i / 20 for i in range(0, 20))


@dataclass(frozen=True)
class Smoothed:
    """One site scaled with one α.

    Attributes:
        treatment: one scale, with the factors 1/s in front of it, and the shifts in front of those.
        alpha: of equation 4.
        activation, weights: shares of noise that rounding the scaled activation adds, and rounding
            the scaled weights.
        excess: what the weights add beyond their noise without factors.
    """

    treatment: PerTensor
    alpha: float
    activation: float
    weights: float
    excess: float


def smoothing(context: Context, site: Site, alpha: float, shift: Array | float = 0.0) -> Array:
    """s_c of equation 4, FP64 [C], normalised so that its geometric mean is 1.

    Args:
        shift: [C], taken off before.
    """
    low, high = _range(context, site, shift)
    activation = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-5)
    rows = [
        np.abs(context.weights[g.weight]).max(axis=1)
        for g in context.structure.consumers(site.tensor)
    ]
    weight = np.maximum(np.max(rows, axis=0).astype(np.float64), 1e-5)
    scale = activation**alpha / weight ** (1 - alpha)
    result: Array = scale / np.exp(np.log(scale).mean())
    return result


def best_smoothing(
    context: Context, site: Site, alphas: Iterable[float] = GRID, *, shifted: bool = False
) -> Smoothed:
    """The α with the least noise of activation and weights together, from statistics alone.

    Args:
        shifted: the middle of each channel's range is taken off first.
    """
    seen = context.statistics[site.tensor]
    # as FP32 has it, for what is taken off and what comes back to be the same
    shift = ((seen.minimum + seen.maximum) / 2).astype(np.float32).astype(np.float64)
    found = [_smoothed(context, site, alpha, shift if shifted else None) for alpha in alphas]
    return min(found, key=lambda smoothed: smoothed.activation + smoothed.weights)


def _smoothed(context: Context, site: Site, alpha: float, shift: Array | None) -> Smoothed:
    middle = 0.0 if shift is None else shift
    scale = smoothing(context, site, alpha, middle)
    low, high = (edge / scale for edge in _range(context, site, middle))
    affine = context.affine((float(low.min()), float(high.max())))
    plain = context.noise.weight_noise(site)
    weights = plain * _weight_growth(context, site, scale, middle)
    return Smoothed(
        treatment=PerTensor(
            affine,
            tuple(float(v) for v in (1 / scale).astype(np.float32)),
            () if shift is None else tuple(float(v) for v in shift),
        ),
        alpha=alpha,
        activation=context.noise.share(site, affine.scale * scale),
        weights=weights,
        excess=max(weights - plain, 0.0),
    )


def _range(context: Context, site: Site, shift: Array | float) -> tuple[Array, Array]:
    """Least and largest value of each channel when the shift is taken off, FP64 [C]."""
    statistics = context.statistics[site.tensor]
    return statistics.minimum - shift, statistics.maximum - shift


def _weight_growth(context: Context, site: Site, scale: Array, shift: Array | float) -> float:
    """Weight noise with the factors over that without: steps grow, the activation's power falls."""
    statistics = context.statistics[site.tensor]
    shifted = statistics.variance + (statistics.mean - shift) ** 2
    power = float((shifted / scale**2).sum()) / float(statistics.power.sum())
    ratio = []
    for gemm in context.structure.consumers(site.tensor):
        weight = context.weights[gemm.weight]
        per_channel = context.options.per_channel_weights
        _, plain = quantize_weight(weight, per_channel=per_channel)
        _, scaled = quantize_weight(weight * scale[:, None], per_channel=per_channel)
        ratio.append(float((scaled**2).sum() / (plain**2).sum()))
    return power * float(np.mean(ratio))
