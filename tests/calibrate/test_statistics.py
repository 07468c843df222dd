"""Statistics on disk: back as they were, merged, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qdeploy.calibrate.observe import observe
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.statistics import Origin, Statistics
from qdeploy.errors import StatisticsError
from tests.calibrate.conftest import Synthetic
from tests.calibrate.encoder import feeds
from tests.calibrate.test_observer import assert_same, seen, values

ORIGIN = Origin(
    "a" * 64, "rows.tsv", "hash", 7, 3, 128, ("0011223344556677",), row_lengths=(9,), truncated=2
)


def made(seed: int = 0, origin: Origin = ORIGIN) -> Statistics:
    sites = {"x": seen(values(seed, 50, 4)), "layer/y:0": seen(values(seed + 1, 20, 1, 100.0))}
    return Statistics(origin, sites)


def test_saved_and_loaded(tmp_path: Path) -> None:
    path, statistics = tmp_path / "s.npz", made()
    statistics.save(path)
    found = Statistics.load(path)
    assert found.origin == ORIGIN and list(found.sites) == list(statistics.sites)
    for name, site in statistics.sites.items():
        assert_same(found.sites[name], site)
        np.testing.assert_array_equal(found.sites[name].sums, site.sums)
        assert found.sites[name].histogram.dtype == np.int64
        found.sites[name].update(values(9, 3, site.channels))  # and they go on
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_second_moments_are_saved_and_held_against_their_digest(tmp_path: Path) -> None:
    site = SiteStatistics.empty(4, products=True)
    site.update(values(3, 20, 4))
    path, statistics = tmp_path / "s.npz", Statistics(ORIGIN, {"x": site})
    statistics.save(path)
    found = Statistics.load(path)
    assert found.has_products and not made().has_products
    assert site.products is not None and found.sites["x"].products is not None
    np.testing.assert_array_equal(found.sites["x"].products, site.products)
    with np.load(path) as arrays:
        kept = dict(arrays)
    kept["x/comoments"] = kept["x/comoments"] * 2
    np.savez_compressed(path, allow_pickle=False, **kept)
    with pytest.raises(StatisticsError, match="are not those that were observed"):
        Statistics.load(path)
    kept["x/comoments"] = kept["x/comoments"][:-1]
    np.savez_compressed(path, allow_pickle=False, **kept)
    with pytest.raises(StatisticsError, match="is not a file of statistics"):
        Statistics.load(path)


def test_second_moments_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """They are about zero, and their digest is of them as they stand in the file."""
    x = values(3, 200, 4) + np.float32(2)
    site = SiteStatistics.empty(4, products=True)
    site.update(x)
    exact, new = np.cov(x.T.astype(np.float64), bias=True), site.covariance
    assert new is not None
    site.products = x.T @ x
    path = tmp_path / "s.npz"
    Statistics(ORIGIN, {"x": site}).save(path)
    with np.load(path) as arrays:
        kept = dict(arrays)
    kept["x/products"] = kept.pop("x/comoments")
    np.savez_compressed(path, allow_pickle=False, **kept)
    found = Statistics.load(path)
    old = found.sites["x"].covariance
    assert old is not None and found.has_products
    np.testing.assert_allclose(old, exact, rtol=1e-4, atol=1e-4)
    found.save(path)  # in the new form
    again = Statistics.load(path).sites["x"].covariance
    np.testing.assert_array_equal(again, old)
    kept["x/products"] = kept["x/products"] * 2
    np.savez_compressed(path, allow_pickle=False, **kept)
    with pytest.raises(StatisticsError, match="are not those that were observed"):
        Statistics.load(path)


def test_merged_statistics_are_those_of_one_pass(synthetic: Synthetic) -> None:
    structure = synthetic.structure
    batches = [feeds(2, 6, seed=i) for i in range(4)]
    halves = [
        Statistics(ORIGIN, observe(synthetic.model, structure, part, threads=1))
        for part in (batches[:2], batches[2:])
    ]
    whole = observe(synthetic.model, structure, batches, threads=1)
    halves[0].merge(halves[1])
    for tensor, site in whole.items():
        assert_same(halves[0].sites[tensor], site)
    merged = halves[0].origin
    assert (merged.rows, merged.data) == (14, "rows.tsv + rows.tsv")
    assert merged.row_lengths == (9, 9) and merged.truncated == 4
    assert merged.row_hashes == ORIGIN.row_hashes * 2 and merged.data_hash == "hash+hash"


def test_another_model_is_refused() -> None:
    other = made(origin=replace(ORIGIN, model_sha256="b" * 64))
    text = r"belong to another model \(model.onnx a{12}…, and this one is b{12}…\). Leave --stat"
    statistics = made()
    with pytest.raises(StatisticsError, match=text):
        statistics.merge(other)
    with pytest.raises(StatisticsError, match=text):
        statistics.require_model("b" * 64)
    statistics.require_model("a" * 64)
    assert_same(statistics.sites["x"], made().sites["x"])


def test_damage_is_told_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    made().save(path)
    whole = path.read_bytes()
    found = 0
    flips = [
        whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(0, len(whole), 97)
    ]
    cut = [whole[:n] for n in (0, 1, 4, 100, len(whole) // 2, len(whole) - 1)]
    for damaged in (*cut, b"no npz at all", *flips):
        path.write_bytes(damaged)
        try:
            Statistics.load(path)  # a flipped date of the archive harms nothing
        except StatisticsError as error:
            found += 1
            assert str(path) in str(error)
            assert "qdeploy calibrate" in str(error)
    assert found > len(flips) / 2


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match=r"does not exist. Make statistics with `qdeploy cal"):
        Statistics.load(tmp_path / "none.npz")
    with pytest.raises(StatisticsError, match=r"not a file of statistics"):
        Statistics.load(tmp_path)
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(StatisticsError, match=r"not a file of statistics.*origin"):
        Statistics.load(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(StatisticsError, match=r"not a file of statistics"):
        Statistics.load(tmp_path / "array.npy")


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdeploy.calibrate.statistics.FORMAT", 99)
    made().save(tmp_path / "s.npz")
    monkeypatch.undo()
    with pytest.raises(StatisticsError, match=r"written by another version of qdeploy"):
        Statistics.load(tmp_path / "s.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.npz"
    made().save(path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match=r"No space left"):
        made(1).save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
