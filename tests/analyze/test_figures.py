"""Figures of a site against numpy on the values themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.analyze.figures import (
    carriers,
    figures,
    moments,
    outlier_channels,
    recurring,
    top_channel_energy,
    top_element_energy,
)
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.schemas.analysis import AnalyzedSite
from tests.report.reports import analysis


def seen(x: Any, classes: Any = None, names: int = 0) -> SiteStatistics:
    site = SiteStatistics.empty(x.shape[1], names)
    site.update(x.astype(np.float32), classes)
    return site


def values(seed: int, rows: int = 500, channels: int = 40) -> Any:
    return np.random.default_rng(seed).normal(0.3, 1.0, (rows, channels)).astype(np.float32)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_moments_of_all_elements(seed: int, scale: float) -> None:
    x = values(seed, 60, 5) * np.float32(scale)
    mean, variance, kurtosis = moments(seen(x))
    wide = x.astype(np.float64)
    assert mean == pytest.approx(wide.mean(), rel=1e-3, abs=1e-4 * scale)
    assert variance == pytest.approx(wide.var(), rel=1e-3)
    fourth = ((wide - wide.mean()) ** 4).mean()
    assert kurtosis == pytest.approx(fourth / wide.var() ** 2, rel=1e-2)


def test_kurtosis_knows_its_marks() -> None:
    rng = np.random.default_rng(0)
    assert moments(seen(rng.normal(size=(20000, 4))))[2] == pytest.approx(3, abs=0.1)
    assert moments(seen(rng.uniform(-1, 1, (20000, 4))))[2] == pytest.approx(1.8, abs=0.05)
    assert moments(seen(np.full((9, 2), 7.0)))[2] == 0


def test_energy_of_channels_and_of_elements_are_two_things() -> None:
    x = values(1, 400, 200)
    x[:, 7] *= 30  # one channel in two hundred
    site = seen(x)
    energy = np.square(x.astype(np.float64))
    by_channel = np.sort(energy.sum(axis=0))[::-1]
    assert top_channel_energy(site) == pytest.approx(by_channel[:2].sum() / energy.sum(), rel=1e-4)
    count = energy.size // 100
    largest = np.sort(energy.ravel())[::-1][:count].sum() / energy.sum()
    assert top_element_energy(site) == pytest.approx(largest, rel=2e-3)
    spread = values(1, 400, 200)
    spread[::100, :] *= 30  # the same share of elements, in every channel
    assert top_channel_energy(seen(spread)) < 0.05 < 0.5 < top_element_energy(seen(spread))


@given(st.integers(0, 2**31))
def test_top_elements_against_sorting(seed: int) -> None:
    x = np.random.default_rng(seed).standard_t(2, (300, 7)).astype(np.float32)
    energy = np.sort(np.square(x.astype(np.float64)).ravel())[::-1]
    count = 0.01 * energy.size
    whole = int(count)
    largest = energy[:whole].sum() + (count - whole) * energy[whole]
    # a bin is 1/4096 of a range up to twice as wide as the largest value
    assert top_element_energy(seen(x)) == pytest.approx(largest / energy.sum(), abs=0.01)


def test_outliers_are_far_wider_than_the_median_channel() -> None:
    x = values(2)
    x[3, 11] = 60.0
    x[:, 30] += 90.0
    assert outlier_channels(seen(x)) == [30, 11]
    assert outlier_channels(seen(values(3))) == []
    heavy = np.random.default_rng(0).standard_t(3, (5000, 20))  # all channels alike
    assert outlier_channels(seen(heavy)) == []
    assert outlier_channels(seen(values(4, 50, 1) * 100)) == []


def test_carriers_name_the_tokens() -> None:
    x, classes = values(5, 100, 6), np.zeros(100, int)
    classes[::10] = 1
    x[classes == 1, 2] = 50.0
    found = carriers(seen(x, classes, 3), [2], ("other", "[SEP]", "never"))
    assert found is not None and set(found) == {"other", "[SEP]"}
    assert found["[SEP]"]["tokens"] == pytest.approx(0.1)
    assert found["[SEP]"]["energy"] > 0.99 and found["[SEP]"]["holds_peak"] == 1
    assert found["other"]["holds_peak"] == 0
    assert carriers(seen(x), [2], ()) is None and carriers(seen(x, classes, 3), [], ("a",)) is None


def test_figures_of_a_site_without_channels() -> None:
    found = figures(seen(values(6, 900, 1)), ())
    assert found["energy_top_1pct_channels"] is None and found["max_over_median_channel"] is None
    assert 0 < found["energy_top_1pct_elements"] < 1


def site(depth: int, channels: int, *loud: int, stream: bool = True) -> AnalyzedSite:
    return {
        **analysis()["sites"][0],
        "depth": depth,
        "channels": channels,
        "outlier_channels": list(loud),
        "stream": stream,
    }


def test_channels_recur_across_depths_of_one_width() -> None:
    sites = {
        "a": site(0, 16, 3, 5),
        "b": site(1, 16, 3),
        "c": site(1, 16, 3),
        "d": site(2, 64, 3),
        "e": site(2, 16, 5, stream=False),
    }
    assert recurring(sites) == [{"channel": 3, "channels": 16, "depths": [0, 1], "sites": 3}]
