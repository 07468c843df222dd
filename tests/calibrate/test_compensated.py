"""Rounding that makes up for its own error, against what defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate import compensated as module
from qdeploy.calibrate.affine import PAIR_LIMIT, pair_peak, quantize_weight
from qdeploy.calibrate.compensated import compensated, output_noise
from qdeploy.calibrate.observer import SiteStatistics

Array = Any


def _correlated(rng: np.random.Generator, k: int, rank: int) -> Array:
    """The covariance of inputs that mostly lie in `rank` directions, [K, K]."""
    spread = rng.normal(size=(k, rank)) * np.exp2(rng.uniform(-2, 2, rank))
    return spread @ spread.T + 0.01 * np.eye(k)


def _weight(rng: np.random.Generator, k: int, n: int) -> Array:
    return rng.normal(size=(k, n)).astype(np.float32)


@pytest.mark.parametrize(("k", "n"), [(24, 5), (300, 40)])  # of one block and of three
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("fits", [True, False])
def test_inputs_that_go_together_leave_a_fraction_of_the_noise(
    k: int, n: int, per_channel: bool, fits: bool
) -> None:
    rng = np.random.default_rng(k)
    weight, covariance = _weight(rng, k, n), _correlated(rng, k, k // 4)
    nearest, scale = quantize_weight(weight, per_channel=per_channel, fits_16_bits=fits)
    codes = compensated(weight, scale, covariance, fits_16_bits=fits)
    assert codes.dtype == np.int8 and codes.shape == weight.shape
    assert np.abs(codes.astype(int)).max() <= 127
    noises = [output_noise(c * scale - weight, covariance) for c in (codes, nearest)]
    assert noises[0] < noises[1] / 4  # 6 dB


@given(st.integers(0, 999), st.integers(2, 9), st.integers(1, 4))
def test_pairs_keep_the_limit_of_16_bits_at_any_scale(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    weight = _weight(rng, k, n)
    scale = np.abs(weight).max(axis=0) / 127  # that no pair widened
    codes = compensated(weight, scale, _correlated(rng, k, 2), fits_16_bits=True)
    assert pair_peak(codes).max() <= PAIR_LIMIT


@given(st.integers(0, 999), st.integers(2, 9), st.sampled_from([1, 7, 31]))
def test_codes_of_fewer_bits_reach_no_further(seed: int, k: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    weight, covariance = 4 * _weight(rng, k, 3), _correlated(rng, k, 2)
    nearest, scale = quantize_weight(weight, per_channel=True, largest=largest)
    codes = compensated(weight, scale, covariance, largest=largest)
    assert np.abs(nearest).max(axis=0).tolist() == [largest] * 3
    assert np.abs(codes).max() <= largest
    np.testing.assert_allclose(nearest * scale, weight, atol=scale.max() * 0.501)


@given(st.integers(0, 999), st.integers(1, 9))
def test_inputs_that_have_nothing_to_do_with_each_other_round_to_nearest(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    weight = _weight(rng, k, 3)
    nearest, scale = quantize_weight(weight, per_channel=True)
    variances = np.diag(rng.uniform(0.1, 10, k))
    np.testing.assert_array_equal(compensated(weight, scale, variances), nearest)


@given(st.integers(0, 999))
def test_each_row_takes_over_what_least_squares_says(seed: int) -> None:
    """Row by row, by the closed form that the factor stands for (Frantar et al. 2023, eq. 3)."""
    rng = np.random.default_rng(seed)
    k, n = 7, 2
    weight, covariance = _weight(rng, k, n).astype(np.float64), _correlated(rng, k, 3)
    scale = np.abs(weight).max(axis=0) / 127
    damped = covariance + module._DAMPING * np.diag(covariance).mean() * np.eye(k)
    order = np.argsort(-np.diag(covariance), kind="stable")
    fixed = np.zeros((k, n))
    for at, row in enumerate(order):
        done, rest = order[:at], order[at:]
        # Σ (w − ŵ)ᵀ C (w − ŵ) over what is left, with the rows before as they are
        error = weight[done] - fixed[done] * scale
        pull = np.linalg.solve(damped[np.ix_(rest, rest)], damped[np.ix_(rest, done)] @ error)
        best = weight[rest] + pull
        fixed[row] = np.clip(np.rint(best[0] / scale), -127, 127)
    np.testing.assert_array_equal(compensated(weight, scale, covariance), fixed.astype(np.int8))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight, covariance = _weight(rng, 40, 6), _correlated(rng, 40, 5)
    scale = np.abs(weight).max(axis=0) / 127
    whole = compensated(weight, scale, covariance, fits_16_bits=True)
    monkeypatch.setattr(module, "_BLOCK", 7)
    np.testing.assert_array_equal(compensated(weight, scale, covariance, fits_16_bits=True), whole)


def test_columns_that_meet_zeros_stay_zeros() -> None:
    rng = np.random.default_rng(3)
    weight, covariance = _weight(rng, 12, 4), _correlated(rng, 12, 3)
    weight[[2, 9]], covariance[[2, 9]], covariance[:, [2, 9]] = 0, 0, 0
    scale = np.abs(weight).max(axis=0) / 127
    codes = compensated(weight, scale, covariance)
    assert not codes[[2, 9]].any() and codes.any()


def test_a_site_that_is_always_zero_rounds_to_nearest() -> None:
    weight = _weight(np.random.default_rng(1), 6, 3)
    nearest, scale = quantize_weight(weight, per_channel=True)
    np.testing.assert_array_equal(compensated(weight, scale, np.zeros((6, 6))), nearest)


@pytest.mark.parametrize("away", [0.0, 1e2, 1e4])
def test_gathered_moments_need_no_way_around(away: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """More channels than directions, and means far larger than spreads: moments as calibrated."""
    rng = np.random.default_rng(4)
    k, seen = 256, SiteStatistics.empty(256, products=True)
    spread, middle = rng.normal(size=(3, k)), away * rng.normal(size=k)
    for rows in (300, 1, 40, 300):
        seen.update((rng.normal(size=(rows, 3)) @ spread + middle).astype(np.float32))
    covariance, weight = seen.covariance, _weight(rng, k, 8)
    assert covariance is not None
    monkeypatch.setattr(np.linalg, "eigh", None)
    scale = np.abs(weight).max(axis=0) / 127
    nearest = np.rint(weight / scale)
    noises = [
        output_noise(codes * scale - weight, spread.T @ spread)
        for codes in (compensated(weight, scale, covariance), nearest)
    ]
    assert noises[0] < noises[1] / 4


def test_moments_that_cancelled_are_no_failure() -> None:
    rng = np.random.default_rng(2)
    weight, covariance = _weight(rng, 6, 3), _correlated(rng, 6, 3)
    covariance[0, 0] -= 10 * np.abs(covariance).max()  # a variance below zero
    scale = np.abs(weight).max(axis=0) / 127
    codes = compensated(weight, scale, covariance)
    assert np.abs(codes * scale - weight).max() < np.abs(weight).max()
