"""What an earlier command was told, later ones need not be told again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.calibrate.statistics import Statistics
from qdeploy.data.reading import NOTE, Reading, reading_for_model
from qdeploy.data.sources import fingerprint
from qdeploy.data.tasks import Columns
from qdeploy.errors import DataError, ModelError, OutputError, QDeployWarning
from qdeploy.files.artifact import read_json, read_manifest, write_json
from qdeploy.files.output import check_output
from tests import manifests
from tests.calibrate.encoder import model_directory

SHORT: dict[str, Any] = {"seq_len": 16, "warmup": 0, "iterations": 2}
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and 60 reviews of which every second one is good."""
    model_directory(tmp_path / "model")
    lines = [f"a film of {at} hours,{('LABEL_0', 'LABEL_1')[at % 2]}" for at in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(("comment,rating", *lines)) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(engine: str, **options: Any) -> Any:
    given: dict[str, Any] = {"data": "reviews.csv", "calibration_rows": 8, "measure": False}
    return qdeploy.build("model", engine, **given | options)


@pytest.mark.parametrize("strategy", ["peg", "dynamic", "fp32"])
def test_an_engine_knows_what_to_read(strategy: str, home: Path) -> None:
    build("engine", strategy=strategy, max_length=12)
    columns = {"first": "comment", "second": None, "label": "rating"}
    assert read_manifest(Path("engine"), "engine")["data"] == {
        "source": str(home / "reviews.csv"),
        "task": "text",
        "columns": columns,
        "max_length": 12,
        "fingerprint": fingerprint("reviews.csv"),
    }
    report = qdeploy.evaluate("engine", latency=False)
    data = report["data"]
    assert (data["source"], data["task"], data["columns"]) == ("reviews.csv", "text", columns)
    assert data["max_length"] == 12 and data["remembered"]
    calibrated = 8 if strategy == "peg" else 0
    assert (data["n"], data["left_out"], data["also_calibration"]) == (
        60 - calibrated,
        calibrated,
        0,
    )


def test_rows_that_calibrated_are_left_out_of_their_own_file_alone(home: Path) -> None:
    build("engine")
    named = qdeploy.evaluate("engine", data="reviews.csv", latency=False)["data"]
    assert (named["n"], named["left_out"], named["how"]) == (52, 8, "by the names of the columns")
    limited = qdeploy.evaluate("engine", data="reviews.csv", latency=False, limit=50)["data"]
    assert (limited["n"], limited["also_calibration"]) == (50, 0)
    (home / "copy.csv").write_bytes((home / "reviews.csv").read_bytes())
    with pytest.warns(QDeployWarning, match="8 of 60 evaluation rows"):
        qdeploy.evaluate("engine", data="copy.csv", latency=False)


def test_where_every_row_calibrated_there_is_no_other(home: Path) -> None:
    build("engine", calibration_rows=60)
    with pytest.warns(QDeployWarning, match="60 of 60 evaluation rows"):
        assert qdeploy.evaluate("engine", latency=False)["data"]["n"] == 60


def test_a_model_knows_what_calibrated_it(home: Path) -> None:
    path = qdeploy.calibrate("model", data="reviews.csv", calibration_rows=8)
    kept = read_json(home / "model" / NOTE)
    assert Reading.from_json(kept).columns == Columns("comment", None, "rating")
    assert qdeploy.calibrate("model", calibration_rows=8) == path
    analyzed = qdeploy.analyze("model", calibration_rows=8, cost_rows=2)["data"]["source"]
    assert (analyzed, kept["source"]) == ("reviews.csv", str(home / "reviews.csv"))
    again = reading_for_model("model", data=None, task="auto", columns=None, max_length=None)
    assert (again.source, again.task, again.remembered) == ("reviews.csv", "text", True)


def test_the_same_rows_under_another_name_are_observed_once(home: Path) -> None:
    path = qdeploy.calibrate("model", data="reviews.csv", calibration_rows=8)
    (home / "copy.csv").write_bytes((home / "reviews.csv").read_bytes())
    before = Statistics.load(path)
    assert qdeploy.calibrate("model", data="copy.csv", calibration_rows=8) == path
    after = Statistics.load(path)
    assert after.origin.reading is not None
    assert after.origin.reading["source"] == str(home / "copy.csv")
    assert after.sites.keys() == before.sites.keys()


def test_rows_may_be_named_by_a_path(home: Path) -> None:
    rows = Path("reviews.csv")
    build("e", data=rows)
    given = read_manifest(home / "e", "engine")["calibration"]
    assert given is not None and given["data"] == str(rows)
    named = (qdeploy.calibrate("model", data=one, calibration_rows=8) for one in (rows, str(rows)))
    assert len(set(named)) == 1
    assert qdeploy.analyze("model", data=rows, calibration_rows=8, cost_rows=0)["sites"]


def test_what_is_noted_is_no_file_of_somebody_else(home: Path) -> None:
    """`export --force` and `build --force` replace what calibration and predict.py leave there."""
    build("engine")
    assert (home / "model" / NOTE).is_file()
    check_output(home / "model", "model", force=True)
    cache = home / "engine" / "__pycache__"
    cache.mkdir()
    (cache / "predict.cpython-311.pyc").touch()
    check_output(home / "engine", "engine", force=True)
    (cache / "other.cpython-311.pyc").touch()
    (home / "model" / "statistics" / "notes.json").touch()
    for name in ("engine", "model"):
        with pytest.raises(OutputError, match="holds what qdeploy did not write"):
            check_output(home / name, name, force=True)


def test_what_is_gone_is_named(home: Path) -> None:
    build("engine")
    (home / "reviews.csv").unlink()
    with pytest.raises(DataError, match=r"reviews.csv, which this engine was built with, is not"):
        qdeploy.evaluate("engine", latency=False)
    with pytest.raises(DataError, match=r"reviews.csv, which this model was calibrated on last"):
        build("other", data=None)
    assert qdeploy.evaluate("engine", accuracy=False, **SHORT)["data"]["source"] == "qnli-mini"


def test_embedded_rows_do_not_stand_in_for_other_classes(home: Path) -> None:
    model_directory(home / "three")
    manifests.edit(home / "three", "model", labels=["good", "bad"])
    qdeploy.build("three", "engine", strategy="fp32")
    with pytest.raises(DataError, match="are not for the classes good, bad. Pass --data"):
        qdeploy.evaluate("engine", latency=False)
    report = qdeploy.evaluate("engine", baseline="engine", latency=False)
    assert report["metrics"] is None and report["baseline"]["agreement"] == 1.0


def test_a_damaged_note_is_named(home: Path) -> None:
    qdeploy.calibrate("model", data="reviews.csv", calibration_rows=8)
    write_json(home / "model" / NOTE, {"source": 3})
    with pytest.raises(ModelError, match=r"data.json is damaged.*Delete it"):
        qdeploy.calibrate("model")
    (home / "model" / NOTE).unlink()
    with pytest.warns(QDeployWarning, match="No calibration data was named"):
        qdeploy.calibrate("model")


# From elsewhere, and later


def evaluated(engine: Path, **options: Any) -> Any:
    data: Any = qdeploy.evaluate(engine, latency=False, **options)["data"]
    return data


def test_another_file_of_that_name_is_not_taken_for_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("engine")
    other = home / "other"
    other.mkdir()
    (other / "reviews.csv").write_text("comment,rating\na text,LABEL_0\n")
    monkeypatch.chdir(other)
    data = evaluated(home / "engine")
    assert (data["source"], data["n"]) == (str(home / "reviews.csv"), 52)
    assert evaluated(home / "engine", data=str(home / "reviews.csv"))["left_out"] == 8
    assert evaluated(home / "engine", data="../reviews.csv")["left_out"] == 8
    again = reading_for_model(home / "model", data=None, task="auto", columns=None, max_length=None)
    assert again.source == str(home / "reviews.csv")


@pytest.mark.parametrize("shape", ["rows.csv", "sub/rows.csv", "./rows.csv", "absolute", "sub/two"])
@pytest.mark.parametrize("gone", ["file", "directory"])
def test_what_is_gone_is_named_however_it_was_typed(shape: str, gone: str, home: Path) -> None:
    typed = str(home / "sub" / "rows.csv") if shape == "absolute" else shape
    path = Path(typed) / "train.tsv" if shape == "sub/two" else Path(typed)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (home / "reviews.csv").read_text()
    path.write_text(text.replace(",", "\t") if path.suffix == ".tsv" else text)
    build("engine", data=typed)
    path.unlink()
    if path.parent != Path():
        path.parent.rmdir()
    if gone == "directory" and (home / "sub").exists():
        (home / "sub").rmdir()
    name = str((home / typed).relative_to(home))
    for attempt in (lambda: evaluated(home / "engine"), lambda: build("other", data=None)):
        with pytest.raises(DataError, match=rf"^{name}, which .*, is not here. Name .* --data"):
            attempt()


@pytest.mark.filterwarnings("error:.*has changed:qdeploy.errors.QDeployWarning")
def test_a_file_that_changed_is_said_and_read(home: Path) -> None:
    build("engine")
    assert evaluated(home / "engine")["n"] == 52
    os.utime(home / "reviews.csv", (0, 0))  # touched is not changed
    assert evaluated(home / "engine")["n"] == 52
    with (home / "reviews.csv").open("a") as stream:
        stream.write("another film of long hours,LABEL_1\n")
    changed = "reviews.csv, which this engine was built with, has changed since. It is read as it"
    with pytest.warns(QDeployWarning, match=changed):
        assert evaluated(home / "engine")["n"] == 53
    with pytest.warns(QDeployWarning, match="model was calibrated on last, has changed since"):
        qdeploy.calibrate("model", calibration_rows=8)
    assert evaluated(home / "engine", data="reviews.csv")["n"] == 53  # named: no word of it


def test_notes_of_earlier_versions_are_read(home: Path) -> None:
    build("engine")
    kept: Any = read_manifest(Path("engine"), "engine")["data"]
    del kept["fingerprint"]
    manifests.edit(home / "engine", "engine", data=kept | {"source": "reviews.csv"})
    assert evaluated(home / "engine")["left_out"] == 8
    (home / "reviews.csv").write_text("comment,rating\na text,LABEL_0\n")
    assert evaluated(home / "engine")["n"] == 1
    for source in ("sub/gone.csv", "/nowhere/gone.csv", "gone.csv"):
        manifests.edit(home / "engine", "engine", data=kept | {"source": source})
        with pytest.raises(DataError, match=rf"^{source}, which this engine was built with, is"):
            evaluated(home / "engine")
    manifests.edit(home / "engine", "engine", data=kept | {"source": "acme/reviews"})
    with pytest.raises(DataError, match=r"^hub:acme/reviews"):
        evaluated(home / "engine")


# Classes whose names say nothing


def test_embedded_rows_do_not_judge_classes_without_names(home: Path) -> None:
    model_directory(home / "own")
    manifests.edit(home / "own", "model", labels=["LABEL_0", "LABEL_1"])
    qdeploy.build("own", "engine", strategy="fp32")
    qdeploy.build("own", "other", strategy="fp32")
    told = "are not known to be for the classes LABEL_0, LABEL_1.*pass --task qnli"
    with pytest.raises(DataError, match=told):
        evaluated(home / "engine")
    asked = qdeploy.evaluate("engine", task="qnli", latency=False, limit=20)
    assert asked["metrics"]["n"] == 20 and not asked["data"]["stands_in"]
    report = qdeploy.evaluate("engine", baseline="other", latency=False, limit=20)
    assert report["metrics"] is None and report["baseline"]["agreement"] == 1.0
    assert report["data"]["stands_in"] and report["data"]["columns"]["label"] is None
    reason = "qnli-mini stands in for rows of your own, and its labels are not the model's"
    assert report["no_accuracy"] == reason
    recipe = home / "recipe.yaml"
    recipe.write_text("latency: {shapes: [1x16]}\ntrials:\n  - {strategy: dynamic}\n")
    with pytest.raises(DataError, match=told):
        qdeploy.sweep("own", "swept", recipe=recipe)


def test_a_search_without_data_counts_no_labels_of_others(home: Path) -> None:
    model_directory(home / "own")
    manifests.edit(home / "own", "model", labels=["LABEL_0", "LABEL_1"])
    for task, labelled in (("auto", False), ("qnli", True)):
        found = qdeploy.build(
            "own", f"e-{task}", strategy="auto", task=task, max_drop=100, measure=False
        )
        assert found["search"]["labelled"] is labelled
