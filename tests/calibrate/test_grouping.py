"""Groupings of channels against brute force over every partition there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.grouping import (
    GROUPINGS,
    as_groups,
    group_channels,
    optimal_partitions,
    spans,
)
from qdeploy.calibrate.schemes import ASYMMETRIC, SCHEMES, SYMMETRIC
from qdeploy.errors import PlanError

Parts = list[list[int]]


def channels(seed: int, count: int) -> tuple[Any, Any, Any]:
    """Ranges with an outlier now and then, some on one side of zero alone, and weights."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=count) * rng.choice([1, 1, 1, 20], count)
    half = rng.exponential(size=count)
    return middle - half, middle + half, rng.uniform(0.1, 2, count)


def cost(parts: Any, low: Any, high: Any, weight: Any, scheme: str) -> float:
    """Σ span² · Σ weight, written out."""
    total = 0.0
    for part in parts:
        bottom = min(0.0, *(low[c] for c in part))
        top = max(0.0, *(high[c] for c in part))
        span = 2 * max(-bottom, top) if scheme == SYMMETRIC else top - bottom
        total += span**2 * sum(weight[c] for c in part)
    return float(total)


def set_partitions(items: list[int], most: int) -> Iterator[Parts]:
    """Every partition into at most `most` parts."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for parts in set_partitions(rest, most):
        for at in range(len(parts)):
            yield [*parts[:at], [first, *parts[at]], *parts[at + 1 :]]
        if len(parts) < most:
            yield [[first], *parts]


def cuts(order: list[int], k: int) -> Iterator[Parts]:
    """Every way to cut a sequence into exactly k runs."""
    for at in combinations(range(1, len(order)), k - 1):
        bounds = [0, *at, len(order)]
        yield [order[a:b] for a, b in pairwise(bounds)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_optimal_is_the_best_of_all_partitions(seed: int, k: int) -> None:
    low, high, weight = channels(seed, 7)
    found = group_channels(low, high, weight, k, grouping="optimal", scheme=SYMMETRIC)
    best = min(cost(p, low, high, weight, SYMMETRIC) for p in set_partitions(list(range(7)), k))
    assert cost(found, low, high, weight, SYMMETRIC) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_optimal_is_the_best_cut_of_the_sorted_channels(seed: int, k: int, scheme: str) -> None:
    low, high, weight = channels(seed, 10)
    found = group_channels(low, high, weight, k, grouping="optimal", scheme=scheme)
    order = sorted(range(10), key=lambda c: spans(low, high, scheme)[c])
    best = min(cost(p, low, high, weight, scheme) for n in range(1, k + 1) for p in cuts(order, n))
    assert cost(found, low, high, weight, scheme) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_cuts_of_all_k_agree_with_each_k(scheme: str) -> None:
    low, high, weight = channels(3, 12)
    order = np.argsort(spans(low, high, scheme), kind="stable")
    every = optimal_partitions(low, high, weight, order, 12, scheme)
    costs = [cost(parts, low, high, weight, scheme) for parts in every]
    assert len(every) == 12 and [len(parts) for parts in every][:3] == [1, 2, 3]
    assert (np.diff(costs) <= 1e-12).all()  # one more group never hurts
    for k, parts in enumerate(every, start=1):
        alone = group_channels(low, high, weight, k, grouping="optimal", scheme=scheme)
        assert as_groups(parts) == alone
    assert costs[-1] == pytest.approx(cost([[c] for c in range(12)], low, high, weight, scheme))


@given(
    st.integers(0, 2**31),
    st.integers(1, 20),
    st.integers(1, 25),
    st.sampled_from(GROUPINGS),
    st.sampled_from(SCHEMES),
)
def test_groups_are_a_partition(seed: int, count: int, k: int, grouping: str, scheme: str) -> None:
    low, high, weight = channels(seed, count)
    groups = group_channels(low, high, weight, k, grouping=grouping, scheme=scheme)
    assert 1 <= len(groups) <= min(k, count) and all(groups)
    assert sorted(c for group in groups for c in group) == list(range(count))
    assert all(list(group) == sorted(group) for group in groups)
    if k == 1:
        assert groups == (tuple(range(count)),)
    if k >= count and grouping != "optimal":
        assert {len(group) for group in groups} == {1}


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_equal_channels_and_silent_ones(grouping: str) -> None:
    zeros = np.zeros(6)
    groups = group_channels(zeros, zeros, zeros, 3, grouping=grouping, scheme=ASYMMETRIC)
    assert sorted(c for group in groups for c in group) == list(range(6)) and len(groups) <= 3


def test_contiguous_and_sorted_are_equal_in_size() -> None:
    low, high, weight = channels(1, 10)
    contiguous = group_channels(low, high, weight, 4, grouping="contiguous", scheme=SYMMETRIC)
    assert contiguous == ((0, 1, 2), (3, 4, 5), (6, 7), (8, 9))
    ordered = group_channels(low, high, weight, 4, grouping="sorted", scheme=SYMMETRIC)
    assert [len(group) for group in ordered] == [3, 3, 2, 2]
    width = spans(low, high, SYMMETRIC)
    for narrow, wide in pairwise(ordered):
        assert max(width[list(narrow)]) <= min(width[list(wide)])
    assert ordered != contiguous


def test_spans_hold_zero() -> None:
    low, high = np.array([-1.0, 2.0, -5.0]), np.array([3.0, 4.0, -4.0])
    assert spans(low, high, ASYMMETRIC).tolist() == [4, 4, 5]
    assert spans(low, high, SYMMETRIC).tolist() == [6, 8, 10]


def test_an_outlier_gets_a_group_of_its_own() -> None:
    low, high = -np.ones(16), np.ones(16)
    high[11] = 60.0
    for scheme in SCHEMES:
        groups = group_channels(low, high, np.ones(16), 2, grouping="optimal", scheme=scheme)
        assert groups[-1] == (11,)


def test_what_is_refused() -> None:
    one = np.ones(4)
    with pytest.raises(PlanError, match=r"--groups must be 1 or more, or 'auto'; it is 0"):
        group_channels(-one, one, one, 0, grouping="sorted", scheme=SYMMETRIC)
    with pytest.raises(PlanError, match=r"Unknown grouping 'optimum'. Did you mean 'optimal'"):
        group_channels(-one, one, one, 2, grouping="optimum", scheme=SYMMETRIC)
