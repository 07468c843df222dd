"""Calibration in shards gives the ranges of one pass, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.observe import observe_directory
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.run import Feeds, calibrate_model
from qdeploy.calibrate.statistics import Statistics, merge_sites
from qdeploy.sweep.shards import split


def same_ranges(a: Mapping[str, SiteStatistics], b: Mapping[str, SiteStatistics]) -> None:
    """Everything that ranges are made of has equal bits; sums are equal but for rounding."""
    assert a.keys() == b.keys()
    for name, site in a.items():
        other = b[name]
        assert (site.count, site.exponent) == (other.count, other.exponent), name
        np.testing.assert_array_equal(site.minimum, other.minimum)
        np.testing.assert_array_equal(site.maximum, other.maximum)
        np.testing.assert_array_equal(site.histogram, other.histogram)
        np.testing.assert_allclose(site.sums, other.sums, rtol=1e-9, atol=1e-9)
        assert (site.tokens is None) == (other.tokens is None)
        if site.tokens is not None and other.tokens is not None:
            np.testing.assert_array_equal(site.tokens.count, other.tokens.count)
            np.testing.assert_array_equal(site.tokens.peak, other.tokens.peak)


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_ranges_of_any_number_of_shards(
    model: Path, rows: str, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdeploy.calibrate.run.BATCH_TOKENS", 64)
    seen: list[int] = []
    whole: dict[str, SiteStatistics] = {}

    def observer(
        model_dir: Path, batches: Iterable[Feeds], products: bool
    ) -> dict[str, SiteStatistics]:
        feeds = list(batches)
        whole.update(observe_directory(model_dir, feeds))
        collected: dict[str, SiteStatistics] = {}
        for shard in split(feeds, shards):
            seen.append(len(shard))
            merge_sites(collected, observe_directory(model_dir, shard))
        return collected

    path = calibrate_model(model, data=rows, calibration_rows=16 + shards, observer=observer)
    assert len(seen) == shards and min(seen) >= 1 and sum(seen) >= 5
    same_ranges(Statistics.load(path).sites, whole)


@pytest.mark.parametrize(("batches", "shards"), [(1, 3), (5, 3), (6, 3), (3, 1)])
def test_every_batch_is_in_one_shard(batches: int, shards: int) -> None:
    feeds: list[Any] = [{"input_ids": np.full((1, 1), i)} for i in range(batches)]
    parts = split(feeds, shards)
    assert sorted(int(f["input_ids"][0, 0]) for part in parts for f in part) == [*range(batches)]
    assert all(parts) and len(parts) == min(batches, shards)
