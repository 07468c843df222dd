"""A grouped input as one int8 operand: channels of large range stand in several columns.

A channel whose range needs m times the levels of int8 becomes m columns, each with an m-th of it:

    round(x / s) = Σ_k round((x / s + k − (m − 1)/2) / m),  k = 0 … m − 1

(Hermite's identity for rounding; m = 2 is the splitting that is aware of quantization in Zhao et
al., ICML 2019, arXiv 1901.09504, §3.3). Each column meets the same weight row, so the product adds
the columns up: the channel has the fine step s over m times the range, and groups and outlier
channels need no product of their own. On a GPU that saves three kernels a group, for K·(m − 1)
more rows; factors and shifts per column become part of the kernel that rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.affine import MIDDLE, Affine
from qdeploy.calibrate.plan import Grouped
from qdeploy.deploy.lowering.fp16_scales import half_scale
from qdeploy.types import Array

# Further columns are at most this share of the channels: beyond, they cost as much as a product.
MOST_SHARE = 0.3
# The first group's step may grow by this factor where that saves columns: 0.8 dB of its noise.
_COARSER = 1.1
# Outlier channels get room for this much more than was seen, since in float they had no limit.
_ROOM = 1.25
# A group that is finer than the first has that one's step, which may be so many times its own.
_FINER = 2.0


@dataclass(frozen=True)
class ChannelSplit:
    """The columns of the operand.

    Attributes:
        affine: of all columns.
        source: channel that each column is made of, [K'].
        rows: weight row that it meets, [K']; −1 for a row of zeros.
        times, index: it is the `index`-th of so many columns of its channel, [K'].
    """

    affine: Affine
    source: Array
    rows: Array
    times: Array
    index: Array

    @property
    def factors(self) -> Array:
        """Multiplied with each column, FP32 [K']."""
        found: Array = (1 / self.times).astype(np.float32)
        return found

    @property
    def shifts(self) -> Array:
        """Added to each column afterwards, FP32 [K']."""
        middle = (self.times - 1) / 2
        found: Array = (self.affine.scale * (self.index - middle) / self.times).astype(np.float32)
        return found

    @property
    def is_split(self) -> bool:
        """Whether any channel stands in more than one column."""
        return bool((self.times > 1).any())


def split_channels(
    treatment: Grouped, total: int, multiple: int, *, whole: bool
) -> tuple[ChannelSplit, list[tuple[tuple[int, ...], Affine]], tuple[int, ...]]:
    """The one operand, and what does not fit into it.

    Args:
        treatment: symmetric.
        total: channels of the input.
        multiple: the number of columns is one of it, where channels are picked.
        whole: the first columns are all channels in order, those elsewhere with rows of zeros;
            where no channel is split, they are the tensor as it is.

    Returns:
        The columns; the groups, and the outlier channels, that keep a product of their own.
    """
    pairs = sorted(
        zip(treatment.groups, treatment.affines, strict=True), key=lambda p: (-len(p[0]), p[0])
    )
    (first, affine), *others = pairs
    # All on the first group's step; the others have columns as long as there is room.
    peaks = dict(zip(treatment.outlier_channels, treatment.outlier_peaks, strict=False))
    step = _best_step(affine.scale, [(len(group), one.scale) for group, one in others])
    times = dict.fromkeys(first, 1)
    room = int(MOST_SHARE * total)
    left_groups, left_outliers = [], []
    for group, one in others:
        pieces = math.ceil(one.scale / step * (1 - 1e-6))
        more = (pieces - 1) * len(group)
        if more > room or step > _FINER * one.scale:
            left_groups.append((group, one))
            continue
        room -= more
        times |= dict.fromkeys(group, pieces)
    # Outlier channels of the smallest range first: most of them fit then.
    for channel in sorted(treatment.outlier_channels, key=lambda c: peaks.get(c, math.inf)):
        needed = _pieces_of(peaks.get(channel), step)
        if needed is None or needed - 1 > room:
            left_outliers.append(channel)
            continue
        room -= needed - 1
        times[channel] = needed
    columns = list(_columns(times, total, whole=whole))
    if not whole or max(times.values()) > 1:
        # filled up with the first channel, which meets zeros there
        columns += [(columns[0][0], -1, 1, 0)] * (-len(columns) % multiple)
    source, rows, count, index = (np.array(one) for one in zip(*columns, strict=True))
    split = ChannelSplit(Affine(step, MIDDLE), source, rows, count, index)
    return split, left_groups, tuple(sorted(left_outliers))


def _columns(
    times: dict[int, int], total: int, *, whole: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Of each column its channel, weight row, number of pieces, and which piece: first pieces of
    all channels in order, then the further ones."""
    for channel in range(total):
        if channel in times:
            yield channel, channel, times[channel], 0
        elif whole:
            yield channel, -1, 1, 0
    for channel, pieces in sorted(times.items()):
        for piece in range(1, pieces):
            yield channel, channel, pieces, piece


def _pieces_of(peak: float | None, step: float) -> int | None:
    """Columns that an outlier channel needs; None where its range is not known."""
    return None if peak is None else max(1, math.ceil(_ROOM * peak / (127 * step)))


def _best_step(scale: float, others: list[tuple[int, float]]) -> float:
    """The step, as FP16 holds it, at which the other groups need the fewest columns.

    Args:
        scale: of the first group.
        others: channels and scale of the others.
    """

    def needed(step: float) -> int:
        return sum(n * math.ceil(one / step * (1 - 1e-6)) for n, one in others)

    tried = [float(half_scale(np.array(scale)))]
    for _, one in others:
        pieces = math.floor(one / scale)
        if pieces >= 1 and scale <= one / pieces <= _COARSER * scale:
            tried.append(float(half_scale(np.array(one / pieces))))
    return min(tried, key=lambda step: (needed(step), step))
