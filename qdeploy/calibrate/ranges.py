"""From statistics to a clipping range [low, high]: pure functions, one per rule.

All are two-sided. Taking only the upper side as the range, as the code behind arXiv 2603.04308
did, loses every negative value; `qdeploy.calibrate.checks` stops such a range.
"""

from __future__ import annotations

import numpy as np

from qdeploy.calibrate.affine import LEVELS
from qdeploy.calibrate.observer import BINS, SiteStatistics, bin_centers
from qdeploy.calibrate.schemes import SYMMETRIC
from qdeploy.types import Array

Range = tuple[float, float]

_SEARCH = 100  # clipping ranges that mse and entropy try
_SMALLEST_SHARE = 0.02  # of the full range; narrower clips were never best on any encoder tried


def minmax(statistics: SiteStatistics) -> Range:
    """The whole range that was seen."""
    return float(statistics.minimum.min()), float(statistics.maximum.max())


def percentile(statistics: SiteStatistics, percent: float, scheme: str) -> Range:
    """The range that holds all but (100 − percent) % of the values on each side.

    Symmetric: the percentile of |x|, on both sides. Interpolated within the histogram's bins.
    """
    counts = statistics.histogram
    if scheme == SYMMETRIC:
        half = counts[BINS // 2 :] + counts[: BINS // 2][::-1]
        peak = _quantile(half, percent / 100, 0.0, 2.0**statistics.exponent)
        peak = min(peak, float(statistics.absolute.max()))
        return -peak, peak
    edge = 2.0**statistics.exponent
    low = -_quantile(counts[::-1], percent / 100, -edge, edge)
    high = _quantile(counts, percent / 100, -edge, edge)
    full_low, full_high = minmax(statistics)
    return max(low, full_low), min(high, full_high)


def _quantile(counts: Array, share: float, start: float, stop: float) -> float:
    """Value below which a share of the counts lies, linear within a bin."""
    total = np.cumsum(counts)
    target = share * total[-1]
    index = int(np.searchsorted(total, target, side="left"))
    index = min(index, len(counts) - 1)
    before = total[index - 1] if index else 0
    inside = (target - before) / max(counts[index], 1)
    return float(start + (index + min(inside, 1.0)) * (stop - start) / len(counts))


def mse(statistics: SiteStatistics, scheme: str) -> Range:
    """The range whose 8-bit grid has the least squared error on the histogram.

    Both sides shrink together; the error is that of rounding and clipping, measured on the bin
    centres (Banner et al. 2019, arXiv 1810.05723, by search in place of their closed form).
    """
    values, counts = _occupied(statistics)
    candidates = _candidates(statistics, scheme)
    width = 2.0**statistics.exponent / (BINS // 2)
    errors = [_squared_error(values, counts, low, high, width) for low, high in candidates]
    return candidates[int(np.argmin(errors))]


def entropy(statistics: SiteStatistics, scheme: str) -> Range:
    """The range that keeps the distribution's information best (least KL divergence).

    Migacz 2017 ("8-bit inference with TensorRT"): the clipped histogram P, its outliers piled on
    the edge bins, against Q, the same after 8-bit quantization; here on the signed histogram.
    """
    values, counts = _occupied(statistics)
    candidates = _candidates(statistics, scheme)
    scores = [_divergence(values, counts, low, high) for low, high in candidates]
    return candidates[int(np.argmin(scores))]


def _occupied(statistics: SiteStatistics) -> tuple[Array, Array]:
    used = np.flatnonzero(statistics.histogram)
    return bin_centers(statistics)[used], statistics.histogram[used].astype(np.float64)


def _candidates(statistics: SiteStatistics, scheme: str) -> list[Range]:
    low, high = minmax(statistics)
    if scheme == SYMMETRIC:
        high = max(-low, high)
        low = -high
    low, high = min(low, 0.0), max(high, 0.0)
    # From the full range downwards: argmin takes the widest of equal scores.
    return [(low * s, high * s) for s in np.linspace(1.0, _SMALLEST_SHARE, _SEARCH)]


def _squared_error(values: Array, counts: Array, low: float, high: float, width: float) -> float:
    step = max((high - low) / LEVELS, 1e-30)
    if width < step:
        grid = np.clip(np.rint((values - low) / step), 0, LEVELS) * step + low
        return float((counts * (values - grid) ** 2).sum())
    # A bin as wide as a step says nothing of the rounding inside it: expect that of any value.
    clipping = values - np.clip(values, low, high)
    return float((counts * (clipping**2 + step**2 / 12)).sum())


def _divergence(values: Array, counts: Array, low: float, high: float) -> float:
    """KL(P ‖ Q) of the clipped distribution and its 8-bit form."""
    inside = (values >= low) & (values <= high)
    if not inside.any():
        return float("inf")
    p = counts[inside].copy()
    p[0] += counts[values < low].sum()
    p[-1] += counts[values > high].sum()
    step = max((high - low) / LEVELS, 1e-30)
    level = np.clip(np.rint((values[inside] - low) / step), 0, LEVELS).astype(np.int64)
    mass = np.bincount(level, weights=counts[inside], minlength=LEVELS + 1)
    members = np.bincount(level, minlength=LEVELS + 1)
    q = mass[level] / members[level]
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def clipped_share(statistics: SiteStatistics, low: float, high: float) -> float:
    """Share of the values outside [low, high], from the histogram."""
    centers = bin_centers(statistics)
    outside = statistics.histogram[(centers < low) | (centers > high)].sum()
    return float(outside / max(int(statistics.histogram.sum()), 1))
