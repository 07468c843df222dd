"""The whole analysis of a model directory, and its page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.analyze.advice import recommend
from qdeploy.cli import main
from qdeploy.errors import OutputError, PlanError, QDeployWarning, StatisticsError
from qdeploy.names import short_name
from qdeploy.report.analysis import headline
from qdeploy.schemas.analysis import Analysis, AnalyzedSite
from tests.calibrate.encoder import LAYERS, OUTLIER
from tests.documents import assert_is
from tests.report.reports import analysis

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
        scope="all",
        activations="symmetric",
        html=page,
        plot=folder,
    )
    assert json.loads(json.dumps(report)) == report  # nothing in it that JSON does not know
    assert_is(report, Analysis)
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
    statistics = qdeploy.calibrate(model_dir, data=rows, calibration_rows=8)

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("qdeploy.analyze.measure.SegmentedModel", run)
    report = qdeploy.analyze(model_dir, statistics=statistics, cost_rows=0)
    assert_is(report, Analysis)
    assert report["w8a8_db"] is None and all(s["cost"] is None for s in report["sites"])
    assert report["plans"] == [] and report["build"]["plan"] is None
    assert report["build"]["options"]["statistics"] == str(statistics)
    assert {s["channels"] for s in report["sites"]} == {16, 32}
    assert report["recommendations"]  # from peg's own plan


def test_statistics_of_another_model_are_refused(
    model_dir: Path, rows: str, tmp_path: Path
) -> None:
    from tests.calibrate.encoder import encoder, model_directory

    other = model_directory(tmp_path / "other", encoder(seed=1))
    statistics = qdeploy.calibrate(other, data=rows, calibration_rows=8)
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


def entry(name: str, layer: int, alone: float, k: int | None) -> AnalyzedSite:
    return {
        **analysis()["sites"][0],
        "name": name,
        "kind": "FFN residual sum",
        "layer": layer,
        "kurtosis": 100.0,
        "channels": 16,
        "outlier_energy": 0.84,
        "outlier_channel_count": 4,
        "max_over_median_channel": 50.0,
        "carriers": {"[SEP]": {"tokens": 0.1, "energy": 0.9, "holds_peak": 1.0}},
        "cost": {"alone_db": alone, "flipped": None, "flip_percent": None, "gain_db": 0.1},
        "remedy": {"groups": k, "sqnr_db": {str(k): 33.0}, "peg_db": 20.0},
        "treatment": {"groups": 2, "outlier_channels": [], "prescaled": False, "text": "2 groups"},
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


def test_what_was_not_measured_is_said_so() -> None:
    unknown = entry("a", 0, 3.0, 2) | {"remedy": None}
    channelless = entry("b", 1, 3.0, 2) | {"remedy": None, "channels": 1}
    mended = entry("c", 2, 3.0, None) | {
        "remedy": {"groups": None, "sqnr_db": {"8": 20.0}, "peg_db": 35.0}
    }
    texts = [found["text"] for found in recommend({"a": unknown, "b": channelless, "c": mended})]
    assert "what mends it was not measured; peg: 2 groups (3.0 dB alone)" in texts[0]
    assert "it has no channels to group: leave it in float" in texts[1]
    assert "no K up to 8 suffices; peg does: 2 groups (3.0 dB alone, 35.0 dB then)" in texts[2]


def test_the_default_is_what_build_rounds(model_dir: Path, rows: str) -> None:
    report = qdeploy.analyze(model_dir, data=rows, calibration_rows=8, cost_rows=8)
    assert report["scope"] == "gemm" and report["answers"] == 8
    assert [(p["strategy"], p["scope"]) for p in report["plans"][:4]] == [
        *(("w8a8", "gemm"), ("peg", "gemm"), ("w8a8", "all"), ("peg", "all"))
    ]
    assert report["plans"][2]["sites"] > report["plans"][0]["sites"] == len(report["sites"])
    assert report["left_out"] == {"costs": [], "remedies": [], "gains": []}
    assert all(s["cost"]["gain_db"] is not None for s in report["sites"])
    shorts = [s["short"] for s in report["sites"]]
    assert shorts == [short_name(s["name"]) for s in report["sites"]]
    assert len(set(shorts)) == len(shorts)


def test_a_short_time_leaves_sites_out_and_names_them(model_dir: Path, rows: str) -> None:
    report = qdeploy.analyze(model_dir, data=rows, calibration_rows=8, cost_rows=8, seconds=1e-6)
    names = [s["name"] for s in report["sites"]]
    assert report["left_out"] == {"costs": names, "remedies": [], "gains": names}
    assert all(s["cost"] is None for s in report["sites"]) and report["w8a8_db"] is not None
    assert len(report["plans"]) == 4 and report["build"]["plan"] is not None


def test_the_build_of_an_analysis_runs(model_dir: Path, rows: str, tmp_path: Path) -> None:
    """Its options are those of `build`, and of its command line."""
    report = qdeploy.analyze(
        model_dir, data=rows, calibration_rows=8, max_length=32, cost_rows=4, scope="all"
    )
    chosen = report["build"]
    assert chosen["options"]["data"] == rows and chosen["options"]["max_length"] == 32
    built = qdeploy.build(model_dir, tmp_path / "engine", **chosen["options"])
    assert built["strategy"] == chosen["options"]["strategy"] and built["scope"] == "all"
    words = shlex.split(chosen["command"])
    assert main(words[1:]) == 0
    assert (Path(words[3]) / "qdeploy.json").exists()


@pytest.mark.parametrize(
    ("header", "asked", "named"),
    [
        ("question\tsentence", {}, {"task": "qnli"}),
        ("question\tsentence", {"task": "text-pair", "columns": "text=question,text_pair=sentence"},
         {"columns": "text=question,text_pair=sentence"}),
        ("title\tcomment", {"columns": "text=comment"}, {"columns": "text=comment"}),
        ("text\tlabel", {"max_length": 16}, {"max_length": 16}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_remembered_rows_are_named_in_what_comes_next(
    header: str, asked: dict[str, Any], named: dict[str, Any], model_dir: Path, tmp_path: Path
) -> None:
    """The model may be calibrated on others before the build is run."""
    model, others = model_dir, tmp_path / "others.tsv"
    path = tmp_path / "mine.tsv"
    lines = [f"which city number {i}?\tthe city is {'x ' * i}." for i in range(12)]
    path.write_text("\n".join([header, *lines]) + "\n")
    others.write_text("text\n" + "another text\n" * 12)
    first = qdeploy.calibrate(model, data=str(path), calibration_rows=8, **asked)
    report = qdeploy.analyze(model, calibration_rows=8, cost_rows=0)
    options = dict(report["build"]["options"])
    assert Path(options.pop("data")).samefile(path)
    assert {name: options[name] for name in named} == named
    assert {"task", "columns", "max_length"} & options.keys() == named.keys()
    qdeploy.calibrate(model, data=str(others), calibration_rows=8)
    again: dict[str, Any] = {key: report["build"]["options"].get(key) for key in ("data", *named)}
    assert qdeploy.calibrate(model, calibration_rows=8, **again) == first


def test_seconds_are_a_number_above_zero(model_dir: Path) -> None:
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PlanError, match="--seconds is"):
            qdeploy.analyze(model_dir, seconds=seconds)
