"""Figures of one site, from its streamed statistics: no second run of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from qdeploy.calibrate.observer import SiteStatistics, bin_centers
from qdeploy.schemas.analysis import AnalyzedSite, Carrier, RecurringChannel, SiteFigures
from qdeploy.types import Array

# A channel is an outlier where its largest value is this many times the median channel's: one scale
# for both leaves the median channel less than a sixth of the levels. (Six standard deviations of
# the site, as Bondarenko et al. 2021 count, grow with the outliers themselves.)
TIMES_MEDIAN = 6.0
TOP = 0.01
_LISTED = 16  # outlier channels that a report names, largest first


def moments(statistics: SiteStatistics) -> tuple[float, float, float]:
    """Mean, variance and kurtosis of all elements of a site (3 for a normal distribution).

    Kurtosis is E[(x − μ)⁴] / σ⁴, not the excess over 3; 0 for a constant.
    """
    n = max(statistics.count * statistics.channels, 1)
    m1, m2, m3, m4 = (float(row.sum()) / n for row in statistics.sums)
    variance = max(m2 - m1**2, 0.0)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return m1, variance, max(fourth, 0.0) / variance**2 if variance > 0 else 0.0


def top_channel_energy(statistics: SiteStatistics, share: float = TOP) -> float:
    """Share of Σ x² in the strongest ⌈share · C⌉ channels."""
    power = np.sort(statistics.power)[::-1]
    count = int(np.ceil(share * len(power)))
    return _share(float(power[:count].sum()), float(power.sum()))


def top_element_energy(statistics: SiteStatistics, share: float = TOP) -> float:
    """Share of Σ x² in the largest `share` of all elements by |x|, from the histogram.

    Exact but for the width of a bin, 1/4096 of the range; the last bin counts in part.
    """
    counts = statistics.histogram.astype(np.float64)
    size = np.abs(bin_centers(statistics))
    order = np.argsort(-size, kind="stable")
    counts, energy = counts[order], (counts * size**2)[order]
    wanted = share * counts.sum()
    before = np.cumsum(counts) - counts
    taken = np.clip((wanted - before) / np.maximum(counts, 1), 0, 1)
    return _share(float((taken * energy).sum()), float(energy.sum()))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def outlier_channels(statistics: SiteStatistics) -> list[int]:
    """Channels far wider than the median one, widest first; none where channels mean nothing."""
    if statistics.channels == 1:
        return []
    absolute = statistics.absolute
    found = np.flatnonzero(absolute > TIMES_MEDIAN * np.median(absolute))
    return [int(c) for c in found[np.argsort(-absolute[found], kind="stable")]]


def carriers(
    statistics: SiteStatistics, channels: list[int], names: tuple[str, ...]
) -> dict[str, Carrier] | None:
    """Per class of token: its share of the tokens, and of the energy of some channels.

    `holds_peak` is the share of those channels whose largest value it holds. None where rows of
    the tensor are no tokens, or no channel is given.
    """
    tokens = statistics.tokens
    if tokens is None or not channels:
        return None
    energy = tokens.energy[:, channels].sum(axis=1)
    holder = Counter(int(row) for row in tokens.peak[:, channels].argmax(axis=0))
    total = float(tokens.count.sum())
    return {
        name: {
            "tokens": _share(float(tokens.count[index]), total),
            "energy": _share(float(energy[index]), float(energy.sum())),
            "holds_peak": holder[index] / len(channels),
        }
        for index, name in enumerate(names)
        if tokens.count[index]
    }


def figures(statistics: SiteStatistics, token_classes: tuple[str, ...]) -> SiteFigures:
    """Everything that the report says of a site without running the model."""
    mean, variance, kurtosis = moments(statistics)
    outliers = outlier_channels(statistics)
    absolute = statistics.absolute
    channelled = statistics.channels > 1
    power = statistics.power
    return {
        "channels": statistics.channels,
        "mean": mean,
        "variance": variance,
        "kurtosis": kurtosis,
        "minimum": float(statistics.minimum.min()),
        "maximum": float(statistics.maximum.max()),
        "energy_top_1pct_channels": top_channel_energy(statistics) if channelled else None,
        "energy_top_1pct_elements": top_element_energy(statistics),
        "max_over_median_channel": _ratio(absolute) if channelled else None,
        "outlier_channels": outliers[:_LISTED],
        "outlier_channel_count": len(outliers),
        "outlier_energy": _share(float(power[outliers].sum()), float(power.sum())),
        "carriers": carriers(statistics, outliers, token_classes),
    }


def _ratio(absolute: Array) -> float | None:
    median = float(np.median(absolute))
    return float(absolute.max()) / median if median > 0 else None


def recurring(sites: Mapping[str, AnalyzedSite]) -> list[RecurringChannel]:
    """Outlier channels that come back, most frequent first.

    Args:
        sites: entries of the report by tensor, each with `kind`, `layer`, `channels` and
            `outlier_channels`; only sites of one width share channels (the residual stream).

    Returns:
        One entry per channel and width that stands in two layers or more: `channel`, `channels`
        (the width), `layers` (sorted), `sites` (how many).
    """
    layers: dict[tuple[int, int], set[int]] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for site in sites.values():
        for channel in site["outlier_channels"] if site["stream"] else ():
            key = (site["channels"], channel)
            counts[key] += 1
            layers.setdefault(key, set()).add(site["depth"])
    return [
        {"channel": key[1], "channels": key[0], "depths": sorted(layers[key]), "sites": count}
        for key, count in counts.most_common()
        if len(layers[key]) > 1
    ]
