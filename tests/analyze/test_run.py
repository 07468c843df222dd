"""The whole analysis of a model directory, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qdeploy
from qdeploy.analyze.advice import recommend
from qdeploy.errors import OutputError, QDeployWarning, StatisticsError
from qdeploy.report.analysis import headline
from tests.calibrate.encoder import LAYERS, OUTLIER

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture
def rows(tmp_path: Path) -> str:
    lines = ["question\tsentence"]
    lines += [f"which city number {i}?\tthe city is {'x ' * i}." for i in range(12)]
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_report_names_the_planted_channel(model_dir: Path, rows: str, tmp_path: Path) -> None:
    page, folder = tmp_path / "a.html", tmp_path / "plots"
    report = qdeploy.analyze(
        model_dir,
        data=rows,
        calibration_rows=8,
        cost_rows=8,
        activations="symmetric",
        html=page,
        plot=folder,
    )
    assert json.loads(json.dumps(report)) == report  # nothing in it that JSON does not know
    assert report["kind"] == "analysis" and report["data"]["rows"] == 8
    assert report["recurring"][0]["channel"] == OUTLIER
    norms = [s for s in report["sites"] if s["kind"] == "LayerNorm output"]
    assert len(norms) == 2 * LAYERS + 1
    assert all(s["outlier_channels"] == [OUTLIER] for s in norms)
    assert all(s["cost"] for s in report["sites"])
    costly = [s for s in report["sites"] if s["remedy"]]
    assert costly and report["recommendations"]
    assert all(s["cost"]["alone_db"] < 30 for s in costly)
    pictured = [s for s in report["sites"] if s["levels"]]
    assert pictured and all(s["levels"]["before"]["used"] > 1 for s in pictured)
    text = page.read_text("utf-8")
    assert headline(report) in text and text.count("<svg") >= 3
    names = {path.stem for path in folder.iterdir()}
    assert {"heat_map", "kurtosis"} <= names and len(names) >= 3


def test_without_costs_the_model_does_not_run(
    model_dir: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = qdeploy.calibrate(model_dir, data=rows, rows=8)

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("qdeploy.analyze.run.SwitchedModel", run)
    report = qdeploy.analyze(model_dir, statistics=statistics, cost_rows=0, scope="gemm")
    assert report["w8a8_db"] is None and all(s["cost"] is None for s in report["sites"])
    assert {s["channels"] for s in report["sites"]} == {16, 32}
    assert report["recommendations"]  # from peg's own plan


def test_statistics_of_another_model_are_refused(
    model_dir: Path, rows: str, tmp_path: Path
) -> None:
    from tests.calibrate.encoder import encoder, model_directory

    other = model_directory(tmp_path / "other", encoder(seed=1))
    statistics = qdeploy.calibrate(other, data=rows, rows=8)
    with pytest.raises(StatisticsError, match="belong to another model"):
        qdeploy.analyze(model_dir, statistics=statistics, cost_rows=0)


def test_outputs_are_checked_before_the_work(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        qdeploy.analyze(model_dir, html=tmp_path / "nowhere" / "a.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        qdeploy.analyze(model_dir, plot=tmp_path / "file")
    assert not (model_dir / "statistics").exists()


def test_embedded_rows_stand_in_with_a_warning(model_dir: Path) -> None:
    with pytest.warns(QDeployWarning, match="qnli-mini"):
        report = qdeploy.analyze(model_dir, calibration_rows=4, cost_rows=2)
    assert report["data"]["rows"] == 4 and report["cost_rows"] == 2


def entry(name: str, layer: int, alone: float, k: int | None, **more: object) -> dict[str, object]:
    return {
        "name": name,
        "kind": "FFN residual sum",
        "layer": layer,
        "kurtosis": 100.0,
        "outlier_energy": 0.84,
        "outlier_channel_count": 4,
        "max_over_median_channel": 50.0,
        "carriers": {"[SEP]": {"tokens": 0.1, "energy": 0.9, "holds_peak": 1.0}},
        "cost": {"alone_db": alone, "gain_db": 0.1},
        "remedy": {"groups": k, "sqnr_db": {str(k): 33.0}},
        "treatment": {"groups": 2, "outlier_channels": [], "text": "2 groups"},
        **more,
    }


def test_sites_of_one_kind_and_remedy_share_a_sentence() -> None:
    sites = {
        "a": entry("a", 0, 3.0, 2),
        "b": entry("b", 2, 5.0, 2),
        "c": entry("c", 1, 9.0, None),
        "d": entry("d", 3, 45.0, 1),
    }
    first, second = recommend(sites)
    assert first["sites"] == ["a", "b"] and second["sites"] == ["c"]
    assert first["text"] == (
        "FFN residual sums of layers 0, 2: at worst 4 channels carry 84 % of the energy, 90 % of "
        "that on [SEP]; K = 2 suffices (3.0 dB alone, 33.0 dB then)"
    )
    assert "no K up to 8 suffices: leave it in float" in second["text"]
