"""`--strategy auto`: the fastest plan that holds, on rows that calibrated nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.autotune import strategy as search
from qdeploy.autotune.candidates import Tried
from qdeploy.data.rows import read_rows, row_hashes
from qdeploy.errors import DataError, GateError, PlanError
from qdeploy.evaluate.heldout import DropEstimate
from tests.calibrate.encoder import model_directory

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("search") / "model")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = ["question\tsentence\tlabel"]
    classes = ("entailment", "not_entailment")
    lines += [
        f"which city number {i}?\tthe city is {'x ' * (i % 7)}.\t{classes[i % 2]}"
        for i in range(60)
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def build(model: Path, engine: Path, rows: str, **options: Any) -> Any:
    return qdeploy.build(
        model, engine, strategy="auto", data=rows, calibration_rows=16, opt_shape="2x16", **options
    )


@dataclass(frozen=True)
class Searched:
    """An engine of a search, what `build` said of it, and what the search held out."""

    engine: Path
    found: Any
    held_out: list[Any]


@pytest.fixture(scope="module")
def searched(model: Path, rows: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search that a plan holds in; each takes five seconds."""
    seen: list[Any] = []
    own = search._held_out

    def held_out(*arguments: Any) -> Any:
        found = own(*arguments)
        seen.append((found[-1], arguments[-1].origin.row_hashes))
        return found

    engine = tmp_path_factory.mktemp("searched") / "engine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_held_out", held_out)
        return Searched(engine, build(model, engine, rows, max_drop=5.0), seen)


def test_the_fastest_that_holds_is_kept(searched: Searched, rows: str) -> None:
    found = searched.found
    report = found["search"]
    assert report["max_length"] == 64 and report["rows"] == 44 and report["labelled"]
    tried = {json.dumps(t["options"]): t for t in report["tried"]}
    chosen = tried[json.dumps(report["chosen"])]
    assert chosen["holds"]
    ratio, low, high = chosen["relative"]
    assert (ratio <= 1.03 or low <= 1.0) and low <= ratio <= high
    manifest = json.loads((searched.engine / "qdeploy.json").read_text())
    assert manifest["search"] == report and manifest["strategy"] == report["chosen"]["strategy"]
    assert manifest["noise"] == found["noise"] and found["noise"]["sqnr_db"] is not None
    assert found["noise"]["data"] == rows
    assert qdeploy.load(searched.engine, threads=1).predict([("which?", "the city.")])


@pytest.mark.parametrize(
    ("plans", "kept"),
    [
        ([(1.0, 1.0, 20), (1.2, 1.1, 30)], 0),  # the fastest
        ([(1.0, 1.0, 20), (1.02, 1.01, 25), (1.04, 1.03, 30)], 1),  # as fast, with less noise
        ([(1.0, 1.0, 20), (1.10, 0.98, 25)], 1),  # cannot be told from it
        ([], None),
    ],
)
def test_the_choice(
    plans: list[tuple[float, float, float]], kept: int | None, tmp_path: Path
) -> None:
    finalists = [
        Tried({}, tmp_path, {}, DropEstimate(0.0, 0.0, 0.0, db), ratio, (ratio, low, 2.0))
        for ratio, low, db in plans
    ]
    assert search.choose(finalists) is (None if kept is None else finalists[kept])


def test_statistics_that_stand_are_used(model: Path, rows: str, tmp_path: Path) -> None:
    statistics = qdeploy.calibrate(model, data=rows, calibration_rows=30, max_length=48)
    found = build(model, tmp_path / "engine", rows, max_drop=100, statistics=statistics)
    assert found["search"]["rows"] == 30
    assert found["search"]["max_length"] == 48  # held-out rows are read as the calibrating ones


def test_every_strategy_of_the_hand_is_tried(searched: Searched) -> None:
    names = {t["options"]["strategy"] for t in searched.found["search"]["tried"]}
    assert {"dynamic", "w8a8", "smoothquant", "mixed", "peg"} <= names


@pytest.mark.parametrize("points", [-50.0, 101.0, float("nan")])
def test_points_that_make_no_sense_are_refused_before_any_work(
    points: float, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match="Give a number from 0 to 100"):
        build(tmp_path / "nowhere", tmp_path / "engine", "rows", max_drop=points)


def test_none_holds(
    model: Path, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = DropEstimate.holds
    monkeypatch.setattr(DropEstimate, "holds", lambda found, points: own(found, points - 50))
    with pytest.raises(GateError, match="No plan loses at most 0 points") as caught:
        build(model, tmp_path / "engine", rows, max_drop=0)
    tried = caught.value.report["tried"]
    exceptions = [t["options"]["float_sites"] for t in tried if "float_sites" in t["options"]]
    assert [len(names) for names in exceptions] == [1, 2, 4]
    assert caught.value.report["chosen"] is None
    assert not (tmp_path / "engine").exists()


def test_verification_rows_calibrated_nothing(searched: Searched, rows: str) -> None:
    ((held, calibrating),) = searched.held_out
    assert not set(row_hashes(held)) & set(calibrating)
    assert len(held) + len(calibrating) == len(read_rows(rows, split="calibration"))


def test_no_row_is_left(model: Path, rows: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is left to verify"):
        qdeploy.build(model, tmp_path / "engine", strategy="auto", data=rows, calibration_rows=60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 4}, "--groups: --strategy auto decides that itself"),
        ({"target": "auto"}, "Name it with --target"),
    ],
)
def test_what_is_refused(
    model: Path, rows: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        build(model, tmp_path / "engine", rows, **options)


def test_a_drop_without_auto_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="is for --strategy auto"):
        qdeploy.build(model, tmp_path / "engine", max_drop=0.3)
