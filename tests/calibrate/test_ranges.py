"""Clipping ranges: against numpy on the values themselves, and against the error they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.affine import affine_from_range, dequantize, quantize
from qdeploy.calibrate.checks import check_signs
from qdeploy.calibrate.observer import BINS, SiteStatistics
from qdeploy.calibrate.ranges import Range, clipped_share, entropy, minmax, mse, percentile
from qdeploy.calibrate.schemes import ASYMMETRIC, SCHEMES, SYMMETRIC


def seen(x: Any) -> SiteStatistics:
    statistics = SiteStatistics.empty(1)
    statistics.update(np.asarray(x, np.float32).reshape(-1, 1))
    return statistics


def bin_width(statistics: SiteStatistics) -> float:
    return float(2.0**statistics.exponent / (BINS // 2))


def heavy(seed: int = 0) -> Any:
    """Gaussian values with a few outliers, one side stronger than the other."""
    x = np.random.default_rng(seed).normal(size=20_000).astype(np.float32)
    x[:8], x[8:11] = 40.0, -25.0
    return x


def true_mse(x: Any, bounds: Range, scheme: str) -> float:
    affine = affine_from_range(*bounds, scheme)
    codes = quantize(x, affine.scale, affine.zero_point)
    back = dequantize(codes, affine.scale, affine.zero_point)
    return float(np.square(x.astype(np.float64) - back).mean())


def test_minmax_is_the_whole_range() -> None:
    x = heavy()
    assert minmax(seen(x)) == (x.min(), x.max()) == (-25.0, 40.0)
    both = SiteStatistics.empty(2)
    both.update(np.array([[-1, 2], [3, -4]], np.float32))
    assert minmax(both) == (-4.0, 3.0)


@given(st.integers(0, 2**31), st.sampled_from([90.0, 99.0, 99.9]), st.floats(-3, 3))
def test_percentile_against_numpy(seed: int, percent: float, shift: float) -> None:
    x = (np.random.default_rng(seed).normal(size=20_000) + shift).astype(np.float32)
    statistics = seen(x)
    # with other definitions the quantile is another of the neighbouring values
    tails = [100 - percent, percent]
    low, high = percentile(statistics, percent, ASYMMETRIC)
    peak = percentile(statistics, percent, SYMMETRIC)[1]
    width = bin_width(statistics)
    for found, data, share in ((low, x, tails[0]), (high, x, tails[1]), (peak, abs(x), tails[1])):
        rank, ordered = share / 100 * len(data), np.sort(data)
        # the rank is whole, but for its own rounding: either neighbour is the quantile
        least = ordered[int(np.ceil(rank - 1e-6)) - 1] - 2 * width
        most = ordered[int(np.floor(rank + 1e-6))] + 2 * width
        assert least <= found <= most


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99, 100.0])
def test_percentile_is_two_sided(scheme: str, percent: float) -> None:
    statistics = seen(heavy())
    low, high = percentile(statistics, percent, scheme)
    assert low < -2 and high > 2  # both sides of the Gaussian survive
    assert low == -high if scheme == SYMMETRIC else low != -high
    check_signs("site", statistics, affine_from_range(low, high, scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_percentile_100_is_minmax(scheme: str) -> None:
    statistics = seen(heavy())
    low, high = percentile(statistics, 100.0, scheme)
    assert high == 40.0 and low == (-40.0 if scheme == SYMMETRIC else -25.0)


def test_percentile_of_one_sided_values_stays_there() -> None:
    x = np.random.default_rng(0).exponential(size=10_000)
    low, high = percentile(seen(x), 99.0, ASYMMETRIC)
    assert 0 <= low < 0.05 and 4 < high < 5.5
    low, high = percentile(seen(-x), 99.0, ASYMMETRIC)
    assert -5.5 < low < -4 and -0.05 < high <= 0


@pytest.mark.parametrize("percent", [99.0, 99.9])
def test_percentile_clips_what_it_says(percent: float) -> None:
    x = heavy()
    statistics = seen(x)
    bounds = percentile(statistics, percent, ASYMMETRIC)
    true = float(((x < bounds[0]) | (x > bounds[1])).mean())
    assert true == pytest.approx(2 * (1 - percent / 100), abs=0.002)
    assert clipped_share(statistics, *bounds) == pytest.approx(true, abs=0.002)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
def test_mse_beats_minmax_on_heavy_tails(scheme: str, seed: int) -> None:
    x = np.random.default_rng(seed).laplace(size=50_000).astype(np.float32)
    statistics = seen(x)
    chosen, whole = mse(statistics, scheme), minmax(statistics)
    assert true_mse(x, chosen, scheme) < 0.97 * true_mse(x, whole, scheme)
    assert chosen[0] < 0 < chosen[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mse_is_near_the_best_of_a_fine_search(scheme: str) -> None:
    x = np.random.default_rng(3).laplace(size=50_000).astype(np.float32)
    low, high = minmax(seen(x))
    if scheme == SYMMETRIC:
        high = max(-low, high)
        low = -high
    best = min(true_mse(x, (low * s, high * s), scheme) for s in np.linspace(0.1, 1, 200))
    assert true_mse(x, mse(seen(x), scheme), scheme) <= 1.05 * best


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mse_keeps_a_uniform_range(scheme: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 50_000)
    low, high = mse(seen(x), scheme)
    assert low < -0.97 and high > 0.97


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entropy_clips_outliers(scheme: str) -> None:
    low, high = entropy(seen(heavy()), scheme)
    assert -25 < low < -2 and 2 < high < 25


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("rule", [mse, entropy])
def test_searches_take_constants_and_one_side(rule: Any, scheme: str) -> None:
    assert rule(seen(np.zeros(10)), scheme) == (0.0, 0.0)
    low, high = rule(seen(np.random.default_rng(0).uniform(0, 2, 10_000)), scheme)
    assert high > 1 and low == (-high if scheme == SYMMETRIC else 0.0)


def test_clipped_share_counts() -> None:
    statistics = seen(np.repeat([-3.0, -1.0, 1.0, 3.0], [10, 20, 30, 40]))
    assert clipped_share(statistics, -2, 2) == 0.5
    assert clipped_share(statistics, -2, 4) == 0.1
    assert clipped_share(statistics, -4, 4) == 0.0
    assert clipped_share(SiteStatistics.empty(1), -1, 1) == 0.0
