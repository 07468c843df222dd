"""The streaming observer: parts merge to the whole bit for bit, and nothing grows with the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.observer import (
    BINS,
    SiteStatistics,
    bin_centers,
    exponent_for,
    widen,
)
from qdeploy.errors import StatisticsError
from tests.tolerances import PRODUCT_SUMS, SUM_ORDER


def seen(*parts: Any) -> SiteStatistics:
    """Statistics of one pass over the parts."""
    statistics = SiteStatistics.empty(parts[0].shape[1])
    for part in parts:
        statistics.update(part)
    return statistics


def values(seed: int, rows: int, channels: int, spread: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(3, (rows, channels)) * spread).astype(np.float32)


def assert_same(a: SiteStatistics, b: SiteStatistics) -> None:
    """Counts, ranges and histogram bit for bit; sums up to the order of addition."""
    assert (a.count, a.exponent) == (b.count, b.exponent)
    np.testing.assert_array_equal(a.minimum, b.minimum)
    np.testing.assert_array_equal(a.maximum, b.maximum)
    np.testing.assert_array_equal(a.histogram, b.histogram)
    # relative to the sum of absolute values: odd moments cancel
    scale = np.maximum(np.abs(b.sums), np.sqrt(np.abs(b.sums[[1, 3, 3, 3]]) * b.count))
    assert (np.abs(a.sums - b.sums) <= SUM_ORDER * scale + 1e-300).all()


@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(1e-3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_two_half_passes_merge_to_one_pass(
    seed: int, first: int, second: int, spread: float, other: float
) -> None:
    a, b = values(seed, first, 3, spread), values(seed + 1, second, 3, other)
    merged = seen(a)
    merged.merge(seen(b))
    whole = seen(np.concatenate([a, b]))
    assert_same(merged, whole)
    assert_same(seen(a, b), whole)


@given(st.integers(0, 2**31))
def test_row_order_does_not_matter(seed: int) -> None:
    x = values(seed, 50, 4)
    shuffled = np.random.default_rng(seed).permutation(x)
    assert_same(seen(*np.array_split(shuffled, 5)), seen(x))


def test_the_numbers_themselves() -> None:
    x = values(5, 200, 3)
    found = seen(x[:70], x[70:])
    exact = x.astype(np.float64)
    assert found.count == 200 and found.channels == 3
    np.testing.assert_array_equal(found.minimum, x.min(axis=0))
    np.testing.assert_array_equal(found.maximum, x.max(axis=0))
    np.testing.assert_array_equal(found.absolute, np.abs(x).max(axis=0))
    np.testing.assert_allclose(found.power, np.square(exact).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, exact.var(axis=0), rtol=1e-6)
    for power, row in enumerate(found.sums, start=1):  # powers are taken in FP32
        np.testing.assert_allclose(row, (exact**power).sum(axis=0), rtol=1e-5)
    edges = np.linspace(-1, 1, BINS + 1) * 2.0**found.exponent
    np.testing.assert_array_equal(found.histogram, np.histogram(exact, edges)[0])
    np.testing.assert_allclose(bin_centers(found), (edges[1:] + edges[:-1]) / 2, rtol=1e-9)


@given(st.integers(0, 2**31), st.integers(0, 20))
def test_widening_is_exact(seed: int, doublings: int) -> None:
    x = values(seed, 100, 1, 0.01)
    narrow = seen(x)
    wide = SiteStatistics.empty(1)
    wide.exponent = narrow.exponent + doublings
    wide.update(x)
    np.testing.assert_array_equal(widen(narrow.histogram, doublings), wide.histogram)
    assert wide.histogram.sum() == 100


@pytest.mark.parametrize("peak", [0.0, 1e-30, 0.5, 1.0, 1.5, 2.0, 65504.0, 1e9])
def test_the_half_width_is_the_next_power_of_two(peak: float) -> None:
    exponent = exponent_for(peak)
    assert peak < 2.0**exponent
    assert exponent == -40 or peak >= 2.0 ** (exponent - 1)


@pytest.mark.parametrize("edge", [-1.0, 1.0, -2.0, 4.0])
def test_powers_of_two_fall_inside(edge: float) -> None:
    found = seen(np.array([[edge], [0.0]], np.float32))
    assert found.histogram.sum() == 2
    width = 2.0**found.exponent / (BINS // 2)
    at = bin_centers(found)[np.flatnonzero(found.histogram)]
    assert np.abs(at - sorted([edge, 0.0])).max() <= width / 2


def test_zeros_and_nothing() -> None:
    found = seen(np.zeros((4, 2), np.float32))
    assert found.histogram[BINS // 2] == 8 and (found.variance == 0).all()
    found.update(np.zeros((0, 2), np.float32))
    assert found.count == 4
    empty = SiteStatistics.empty(2)
    assert empty.count == 0 and (empty.power == 0).all() and (empty.variance == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    x = values(0, 10, 3)
    found = seen(x)
    x[4, 1] = bad
    with pytest.raises(StatisticsError, match=r"the model gave NaN or infinity"):
        found.update(x)
    assert_same(found, seen(values(0, 10, 3)))  # and nothing of the batch was taken in


def test_second_moments_are_those_of_the_values() -> None:
    x, y = values(1, 30, 5), values(2, 11, 5)
    found = SiteStatistics.empty(5, products=True)
    found.update(x)
    other = SiteStatistics.empty(5, products=True)
    other.update(y)
    found.merge(other)
    covariance = found.covariance
    assert covariance is not None
    exact = np.cov(np.concatenate([x, y]).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(covariance, exact, rtol=1e-4, atol=1e-4)
    found.merge(seen(x))  # of which nobody gathered them
    assert found.products is None and found.covariance is None


@given(
    st.integers(0, 2**31),
    st.floats(0, 1e5),
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.booleans(),
)
def test_second_moments_do_not_cancel(
    seed: int, away: float, sizes: list[int], merged: bool
) -> None:
    """Means up to 10⁵ spreads away, in batches of any size: within the rounding of the spreads."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(4, 4))
    middle = away * rng.choice([-1.0, 1.0], 4)
    parts = [(rng.normal(size=(n, 4)) @ mixed + middle).astype(np.float32) for n in sizes]
    found = SiteStatistics.empty(4, products=True)
    for part in parts:
        if merged:
            other = SiteStatistics.empty(4, products=True)
            other.update(part)
            found.merge(other)
        else:
            found.update(part)
    covariance = found.covariance
    assert covariance is not None
    every = np.concatenate(parts).astype(np.float64)
    exact = np.cov(every.T, bias=True).reshape(4, 4)
    # a mean in FP32 is off by half a step of it, and each value about it by half a step of that
    off = (np.abs(every).max() * 2.0**-24) ** 2 + PRODUCT_SUMS * np.trace(exact)
    assert np.abs(covariance - exact).max() <= off
    np.testing.assert_array_equal(covariance, covariance.T)
    damped = covariance + 0.01 * (np.trace(covariance) / 4 or 1.0) * np.eye(4)
    np.linalg.cholesky(damped)  # so that weights are compensated without the way around


def test_other_channels_are_refused() -> None:
    with pytest.raises(StatisticsError, match=r"Statistics of 4 channels cannot be merged into 3"):
        seen(values(0, 5, 3)).merge(seen(values(0, 5, 4)))


def test_size_does_not_depend_on_rows() -> None:
    def size(found: SiteStatistics) -> int:
        return sum(
            array.nbytes for array in (found.minimum, found.maximum, found.sums, found.histogram)
        )

    few, many = seen(values(0, 2, 8)), seen(*(values(i, 500, 8, 10.0**i) for i in range(6)))
    assert size(few) == size(many) == size(SiteStatistics.empty(8)) == 8 * (8 * 6 + BINS)
    assert many.histogram.dtype == np.int64  # counts of a long pass do not overflow
