"""Limits of a row, rows that are cut, and two sets of rows of other lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data.lengths import (
    RowLengths,
    cut_text,
    difference_text,
    fisher_p,
    row_limit,
)
from qdeploy.errors import PlanError


def lengths(*kept: int, truncated: int = 0, limit: int = 512) -> RowLengths:
    return RowLengths(kept, truncated, limit)


def drawn(mean: float, count: int, seed: int, limit: int = 512) -> RowLengths:
    kept = np.minimum(np.random.default_rng(seed).poisson(mean, count) + 3, limit)
    return RowLengths(tuple(kept.tolist()), int((kept == limit).sum()), limit)


# The limit


@pytest.mark.parametrize(
    ("longest", "wanted", "limit"),
    [(128, None, 128), (512, None, 512), (8192, None, 512), (8192, 4096, 4096), (512, 128, 128)],
)
def test_the_models_own_limit_and_at_most_512(longest: int, wanted: int | None, limit: int) -> None:
    assert row_limit(longest, wanted) == limit


def test_limits_that_cannot_be_kept() -> None:
    with pytest.raises(
        PlanError, match=r"--max-length is 513, and the model takes at most 512 tok"
    ):
        row_limit(512, 513)
    with pytest.raises(
        PlanError, match=r"and the engine takes at most 64 tokens\. Give 64 or less"
    ):
        row_limit(64, 128, "the engine")
    with pytest.raises(PlanError, match=r"--max-length is 0, and at least 1 is needed"):
        row_limit(512, 0)


# What was cut


def test_rows_that_fit_need_no_word() -> None:
    assert cut_text(lengths(8, 512), "evaluation", 512, None) is None


def test_the_share_of_cut_rows_its_cause_and_the_way_out() -> None:
    some = lengths(*[512] * 3, *[40] * 9, truncated=3)
    own = cut_text(some, "evaluation", 512, None)
    assert own is not None and "3 of 12 evaluation rows (25.0 %) have more than 512 tokens" in own
    assert "the model takes no more" in own and "--max-length" not in own
    usual = cut_text(some, "calibration", 8192, None)
    assert usual is not None and "3 of 12 calibration rows" in usual
    assert "it is the limit where none is named" in usual
    assert "raise the limit with --max-length, up to 8192" in usual
    said = cut_text(lengths(*[64] * 4, truncated=1, limit=64), "evaluation", 512, 64)
    assert said is not None and "--max-length says so" in said and "up to 512" in said


def test_few_of_many_never_read_as_none() -> None:
    few = cut_text(lengths(*[512] * 5000, truncated=1), "evaluation", 512, None)
    assert few is not None and "1 of 5000 evaluation rows (0.02 %)" in few


def test_the_summary() -> None:
    found = lengths(*range(1, 101), truncated=20, limit=100)
    assert found.summary() == {"mean": 50.5, "median": 50, "p95": 95, "max": 100}
    assert found.to_json()["truncated_share"] == 0.2


# Other lengths


def test_rows_of_one_distribution_are_not_named() -> None:
    """At p < 0.01 one pair of a hundred would be by right; 1.5 times as long is rarer still."""
    pairs = [(drawn(40, 128, seed), drawn(40, 1000, 500 + seed)) for seed in range(200)]
    assert not any(difference_text(a, b) for a, b in pairs)
    small = [(drawn(12, 6, seed), drawn(12, 9, 500 + seed)) for seed in range(200)]
    assert sum(difference_text(a, b) is not None for a, b in small) <= 2


@pytest.mark.parametrize(("mean", "other"), [(30, 90), (90, 30), (20, 400)])
@pytest.mark.parametrize("count", [16, 128])
def test_longer_and_shorter_rows_are_named(mean: int, other: int, count: int) -> None:
    text = difference_text(drawn(mean, count, 0), drawn(other, 200, 1))
    assert text is not None and "have other lengths (median" in text
    assert "Calibrate on rows like those of production" in text


def test_a_tail_alone_is_named() -> None:
    """One row of eight is long: the median says nothing, the 95th percentile does."""
    short, tail = drawn(40, 128, 0), drawn(40, 700, 1)
    mixed = RowLengths((*tail.kept, *[400] * 100), 0, 512)
    text = difference_text(short, mixed)
    assert text is not None and "95 % up to 400 tokens" in text
    assert difference_text(mixed, short) is not None


def test_rows_that_were_cut_shorter_are_named_with_the_cut() -> None:
    cut = RowLengths((64,) * 60 + (40,) * 20, 60, 64)
    text = difference_text(cut, drawn(200, 300, 0))
    assert text is not None and "75.0 % cut at 64" in text


@pytest.mark.parametrize(("first", "second"), [(5, 9), (100, 140)])
def test_lengths_that_are_near_are_not_named(first: int, second: int) -> None:
    """Four tokens of five are nothing, nor is 1.4 times as long."""
    assert difference_text(lengths(*[first] * 100), lengths(*[second] * 100)) is None


def test_a_few_rows_are_too_few_to_tell() -> None:
    assert difference_text(lengths(10, 12), lengths(100, 120)) is None
    assert difference_text(lengths(), lengths(100)) is None


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_fisher_equals_the_count_of_tables(n: int, m: int, data: st.DataObject) -> None:
    first, second = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    hits = first + second
    ways = {
        k: math.comb(n, k) * math.comb(m, hits - k)
        for k in range(max(0, hits - m), min(n, hits) + 1)
    }
    every = sum(ways.values())
    below = sum(w for k, w in ways.items() if k <= first) / every
    above = sum(w for k, w in ways.items() if k >= first) / every
    assert fisher_p(first, n, second, m) == pytest.approx(min(1, 2 * min(below, above)))
    assert fisher_p(second, m, first, n) == pytest.approx(fisher_p(first, n, second, m))
