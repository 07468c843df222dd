"""Streaming observation of one site: moments per channel and a histogram that widens as it goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.tokens import TokenStatistics
from qdeploy.errors import StatisticsError
from qdeploy.types import Array

BINS = 8192
_NARROWEST = -40  # exponent of the half-width where a histogram of zeros starts


@dataclass
class SiteStatistics:
    """What is kept of a site; its size depends on channels and bins, never on rows.

    Attributes:
        count: elements seen per channel.
        minimum, maximum: FP64 [C].
        sums: FP64 [4, C], the sums of x, x², x³ and x⁴.
        histogram: int64 [BINS] over [−2^exponent, 2^exponent), all channels together.
        exponent: the half-width is a power of two, so that widening joins pairs of bins exactly
            and two half passes merge into the same bits as one pass.
        tokens: the same by class of token; None where rows of the tensor are no tokens.
        products: FP32 [C, C], the sum of (x − mean)(x − mean)ᵀ, for
            `qdeploy.calibrate.compensated`; None where it was not asked for.
        sensitivity: dB, of the input of a GEMM (`qdeploy.calibrate.sensitivity`); None where it was
            not measured.
    """

    count: int
    minimum: Array
    maximum: Array
    sums: Array
    histogram: Array
    exponent: int
    tokens: TokenStatistics | None = None
    products: Array | None = None
    sensitivity: float | None = None

    @classmethod
    def empty(
        cls, channels: int, token_classes: int = 0, *, products: bool = False
    ) -> SiteStatistics:
        """Nothing seen yet; `token_classes` is T, 0 where rows of the tensor are no tokens."""
        return cls(
            count=0,
            minimum=np.full(channels, np.inf),
            maximum=np.full(channels, -np.inf),
            sums=np.zeros((4, channels)),
            histogram=np.zeros(BINS, np.int64),
            exponent=_NARROWEST,
            tokens=TokenStatistics.empty(token_classes, channels) if token_classes else None,
            products=np.zeros((channels, channels), np.float32) if products else None,
        )

    @property
    def channels(self) -> int:
        """C."""
        return int(self.minimum.size)

    @property
    def absolute(self) -> Array:
        """Largest absolute value per channel, FP64 [C]."""
        result: Array = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        return result

    @property
    def power(self) -> Array:
        """Mean square per channel, FP64 [C]."""
        result: Array = self.sums[1] / max(self.count, 1)
        return result

    @property
    def mean(self) -> Array:
        """Mean per channel, FP64 [C]."""
        result: Array = self.sums[0] / max(self.count, 1)
        return result

    @property
    def variance(self) -> Array:
        """Variance per channel, FP64 [C]."""
        result: Array = np.maximum(self.power - self.mean**2, 0.0)
        return result

    @property
    def covariance(self) -> Array | None:
        """Covariance of the channels, FP64 [C, C]; None where products were not asked for."""
        if self.products is None:
            return None
        found: Array = self.products.astype(np.float64) / max(self.count, 1)
        return found

    def update(self, x: Array, classes: Array | None = None) -> None:
        """Take in FP32 values [rows, C].

        Args:
            x: the values.
            classes: int [rows], the class of each token, where they are kept.

        Raises:
            StatisticsError: NaN or infinity among them.
        """
        if x.size == 0:
            return
        low, high = x.min(axis=0), x.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise StatisticsError("the model gave NaN or infinity")
        if self.products is not None:
            self.products += self._deviations(x)
        self.count += len(x)
        np.minimum(self.minimum, low, out=self.minimum)
        np.maximum(self.maximum, high, out=self.maximum)
        square = x * x
        for row, values in zip(self.sums, (x, square, square * x, square * square), strict=True):
            row += values.sum(axis=0, dtype=np.float64)
        self._widen(exponent_for(float(max(-low.min(), high.max()))))
        factor = np.float32(2.0 ** (-self.exponent) * (BINS // 2))
        index = np.floor(x.ravel() * factor).astype(np.int32) + BINS // 2
        self.histogram += np.bincount(index, minlength=BINS)
        if self.tokens is not None and classes is not None:
            self.tokens.update(x, classes)

    def _deviations(self, x: Array) -> Array:
        """What a batch [rows, C] adds to `products`, FP32 [C, C].

        Its own, and what lies between its mean and that of the rows before (Chan, Golub and LeVeque
        1979, eq. 2.1), as one more row. Nothing is subtracted, so that nothing cancels where a mean
        is far larger than its spread.
        """
        mean = x.mean(axis=0, dtype=np.float64)
        rows = np.empty((len(x) + 1, self.channels), np.float32)
        np.subtract(x, mean.astype(np.float32), out=rows[:-1])
        rows[-1] = _between(self.count, len(x)) ** 0.5 * (mean - self.mean)
        found: Array = rows.T @ rows
        return found

    def merge(self, other: SiteStatistics) -> None:
        """Take in what another pass saw.

        Raises:
            StatisticsError: another number of channels.
        """
        if self.channels != other.channels:
            raise StatisticsError(
                f"Statistics of {other.channels} channels cannot be merged into {self.channels}."
            )
        if self.products is not None and other.products is not None:
            apart = _between(self.count, other.count) ** 0.5 * (self.mean - other.mean)
            self.products += other.products
            self.products += np.outer(apart, apart).astype(np.float32)
        else:
            self.products = None
        self.count += other.count
        np.minimum(self.minimum, other.minimum, out=self.minimum)
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        self.sums += other.sums
        if self.sensitivity is not None and other.sensitivity is not None:
            self.sensitivity = (self.sensitivity + other.sensitivity) / 2
        else:
            self.sensitivity = None
        self._widen(other.exponent)
        self.histogram += widen(other.histogram, self.exponent - other.exponent)
        if self.tokens is not None and other.tokens is not None:
            self.tokens.merge(other.tokens)

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.histogram = widen(self.histogram, exponent - self.exponent)
            self.exponent = exponent


def _between(count: int, other: int) -> float:
    """What the square of the distance of two means counts for; 0 where one has nothing."""
    return count * other / max(count + other, 1)


def exponent_for(peak: float) -> int:
    """Smallest exponent e with peak < 2^e, strictly, so that no value falls on the upper edge."""
    if peak <= 0:
        return _NARROWEST
    return max(int(np.frexp(peak)[1]), _NARROWEST)


def widen(histogram: Array, doublings: int) -> Array:
    """The same counts over a range 2^doublings times as wide."""
    for _ in range(min(doublings, BINS.bit_length())):
        wide = np.zeros(BINS, np.int64)
        wide[BINS // 4 : 3 * BINS // 4] = histogram.reshape(-1, 2).sum(axis=1)
        histogram = wide
    return histogram


def bin_centers(statistics: SiteStatistics) -> Array:
    """Middle of each bin, FP64 [BINS]."""
    width = 2.0**statistics.exponent / (BINS // 2)
    return (np.arange(BINS) - BINS // 2 + 0.5) * width
