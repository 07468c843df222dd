"""Statistics against brute force and against published values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.evaluate import metrics


def brute_mcnemar(b: int, c: int) -> float:
    """Over every way in which b + c coins can fall."""
    worse = min(b, c)
    tails = [sum(coins) for coins in itertools.product((0, 1), repeat=b + c)]
    return min(1.0, 2 * sum(tail <= worse for tail in tails) / len(tails))


@pytest.mark.parametrize(("b", "c"), [(b, c) for b in range(7) for c in range(7)])
def test_mcnemar_equals_brute_force(b: int, c: int) -> None:
    assert metrics.mcnemar_p(b, c) == brute_mcnemar(b, c)


@given(b=st.integers(0, 400), c=st.integers(0, 400))
def test_mcnemar_equals_the_binomial_sum(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    assert metrics.mcnemar_p(b, c) == min(1.0, 2 * tail / 2 ** (b + c))
    assert metrics.mcnemar_p(b, c) == metrics.mcnemar_p(c, b)


def test_mcnemar_of_thousands_of_rows_neither_overflows_nor_ends_at_zero() -> None:
    assert metrics.mcnemar_p(2700, 2700) == 1.0
    assert 0 < metrics.mcnemar_p(100, 1100) < 1e-200
    assert metrics.mcnemar_p(0, 5463) == 0.0  # 2 ** -5462 is below the smallest double


def test_mcnemar_of_predictions_counts_only_disagreement() -> None:
    gold = np.array([0, 0, 1, 1, 0, 1])
    first = np.array([0, 0, 1, 1, 1, 0])
    second = np.array([0, 1, 0, 0, 1, 1])
    assert metrics.mcnemar_of(first, second, gold) == metrics.mcnemar_p(3, 1)


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = metrics.wilson_interval(right, n)
        assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 6000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_its_own_equation(counts: tuple[int, int]) -> None:
    right, n = counts
    share, z = right / n, 1.959963984540054
    low, high = metrics.wilson_interval(right, n)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            error = abs(share - end)
            assert error == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_agreement_and_flips_complete_each_other(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    flipped = sum(a != b for a, b in pairs)
    assert metrics.flipped_rows(first, second) == flipped
    assert metrics.agreement(first, second) == pytest.approx(1 - flipped / len(pairs))
    assert metrics.accuracy(first, second) == pytest.approx(metrics.agreement(first, second))


def test_constant_predictor() -> None:
    assert metrics.constant_predictor(np.array([1, 1, 1]))
    assert not metrics.constant_predictor(np.array([1, 1, 0]))
    assert not metrics.constant_predictor(np.array([1]))
