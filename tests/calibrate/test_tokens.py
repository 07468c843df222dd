"""Classes of tokens: who is who, and sums that add up to those of the whole site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.tokens import FIRST, OTHER, TokenStatistics, class_names, classify

SPECIALS = {"[CLS]": 2, "[SEP]": 3}


def test_every_real_token_has_one_class() -> None:
    ids = np.array([[2, 9, 3, 8, 3, 0], [7, 9, 3, 0, 0, 0]])
    mask = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], bool)
    names = class_names(SPECIALS)
    assert names == ("[CLS]", "[SEP]", FIRST, OTHER)
    found = [names[c] for c in classify(ids, mask, SPECIALS)]
    first_row = ["[CLS]", OTHER, "[SEP]", OTHER, "[SEP]"]
    assert found == [*first_row, FIRST, OTHER, "[SEP]"]


def test_padding_on_the_left_moves_the_first_token() -> None:
    ids, mask = np.array([[0, 0, 7, 8]]), np.array([[0, 0, 1, 1]], bool)
    assert [class_names({})[c] for c in classify(ids, mask, {})] == [FIRST, OTHER]


def test_a_row_of_padding_alone_has_no_token() -> None:
    ids, mask = np.array([[0, 0], [5, 6]]), np.array([[0, 0], [1, 1]], bool)
    assert len(classify(ids, mask, SPECIALS)) == 2


def drawn(seed: int, rows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 5)).astype(np.float32), rng.integers(0, 3, rows)


@given(st.integers(0, 2**31), st.integers(1, 50))
def test_classes_add_up_to_the_site(seed: int, rows: int) -> None:
    x, of = drawn(seed, rows)
    site = SiteStatistics.empty(5, token_classes=3)
    site.update(x, of)
    assert site.tokens is not None
    assert site.tokens.count.sum() == rows
    np.testing.assert_allclose(site.tokens.energy.sum(axis=0), site.sums[1], rtol=1e-5)
    np.testing.assert_array_equal(site.tokens.peak.max(axis=0), site.absolute)


def test_one_class_against_numpy() -> None:
    x, of = drawn(0, 200)
    found = TokenStatistics.empty(3, 5)
    found.update(x, of)
    for index in range(3):
        chosen = x[of == index]
        np.testing.assert_allclose(found.energy[index], np.square(chosen).sum(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(found.peak[index], np.abs(chosen).max(axis=0))


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30))
def test_two_half_passes_merge_to_one(seed: int, first: int, second: int) -> None:
    (a, of_a), (b, of_b) = drawn(seed, first), drawn(seed + 1, second)
    half, other, whole = (SiteStatistics.empty(5, token_classes=3) for _ in range(3))
    half.update(a, of_a)
    other.update(b, of_b)
    half.merge(other)
    whole.update(np.concatenate([a, b]), np.concatenate([of_a, of_b]))
    assert half.tokens is not None and whole.tokens is not None
    np.testing.assert_array_equal(half.tokens.count, whole.tokens.count)
    np.testing.assert_array_equal(half.tokens.peak, whole.tokens.peak)
    np.testing.assert_allclose(half.tokens.energy, whole.tokens.energy, rtol=1e-6)


def test_sites_without_tokens_keep_none() -> None:
    site = SiteStatistics.empty(5)
    site.update(np.ones((2, 5), np.float32))
    assert site.tokens is None


@pytest.mark.parametrize("classes", [0, 3])
def test_they_survive_the_disk(tmp_path: Any, classes: int) -> None:
    from qdeploy.calibrate.statistics import Origin, Statistics

    site = SiteStatistics.empty(5, token_classes=classes)
    x, of = drawn(1, 40)
    site.update(x, of if classes else None)
    origin = Origin("m", "d", "h", 40, 0, 128, token_classes=("a", "b", "c"))
    Statistics(origin, {"t": site}).save(tmp_path / "s.npz")
    back = Statistics.load(tmp_path / "s.npz")
    assert back.origin == origin
    if not classes:
        assert back.sites["t"].tokens is None
        return
    assert site.tokens is not None and back.sites["t"].tokens is not None
    np.testing.assert_array_equal(back.sites["t"].tokens.energy, site.tokens.energy)
    np.testing.assert_array_equal(back.sites["t"].tokens.peak, site.tokens.peak)
