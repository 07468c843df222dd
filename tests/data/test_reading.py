"""What an earlier command was told, later ones need not be told again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.calibrate.statistics import Statistics
from qdeploy.data.reading import NOTE, Reading, reading_for_model
from qdeploy.data.tasks import Columns
from qdeploy.errors import DataError, ModelError, OutputError, QDeployWarning
from qdeploy.files.artifact import read_json, read_manifest, write_json
from qdeploy.files.publish import check_output
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


def build(engine: str, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"data": "reviews.csv", "calibration_rows": 8, "measure": False}
    return qdeploy.build("model", engine, **given | options)


@pytest.mark.parametrize("strategy", ["peg", "dynamic", "fp32"])
def test_an_engine_knows_what_to_read(strategy: str, home: Path) -> None:
    build("engine", strategy=strategy, max_length=12)
    columns = {"first": "comment", "second": None, "label": "rating"}
    assert read_manifest(Path("engine"), "engine")["data"] == {
        "source": "reviews.csv",
        "task": "text",
        "columns": columns,
        "max_length": 12,
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
    path = qdeploy.calibrate("model", data="reviews.csv", rows=8)
    kept = read_json(home / "model" / NOTE)
    assert Reading.from_json(kept).columns == Columns("comment", None, "rating")
    assert qdeploy.calibrate("model", rows=8) == path
    assert (
        qdeploy.analyze("model", calibration_rows=8, cost_rows=2)["data"]["source"]
        == kept["source"]
    )
    again = reading_for_model("model", data=None, task="auto", columns=None, max_length=None)
    assert (again.source, again.task, again.remembered) == ("reviews.csv", "text", True)


def test_the_same_rows_under_another_name_are_observed_once(home: Path) -> None:
    path = qdeploy.calibrate("model", data="reviews.csv", rows=8)
    (home / "copy.csv").write_bytes((home / "reviews.csv").read_bytes())
    before = Statistics.load(path)
    assert qdeploy.calibrate("model", data="copy.csv", rows=8) == path
    after = Statistics.load(path)
    assert after.origin.reading is not None and after.origin.reading["source"] == "copy.csv"
    assert after.sites.keys() == before.sites.keys()


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
    qdeploy.calibrate("model", data="reviews.csv", rows=8)
    write_json(home / "model" / NOTE, {"source": 3})
    with pytest.raises(ModelError, match=r"data.json is damaged.*Delete it"):
        qdeploy.calibrate("model")
    (home / "model" / NOTE).unlink()
    with pytest.warns(QDeployWarning, match="No calibration data was named"):
        qdeploy.calibrate("model")
