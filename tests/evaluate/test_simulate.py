"""`eval --simulate`: the accuracy of a graph whose target is not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import ModelError, PlanError
from tests.calibrate.encoder import model_directory

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("simulate") / "model")


@pytest.fixture(scope="module")
def engines(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dry run for TensorRT, and the FP32 baseline."""
    home = tmp_path_factory.mktemp("engines")
    qdeploy.build(model, home / "trt", target="tensorrt", dry_run=True, calibration_rows=8)
    qdeploy.build(model, home / "fp32", strategy="fp32")
    return home / "trt", home / "fp32"


def test_accuracy_is_measured_and_nothing_else(engines: tuple[Path, Path]) -> None:
    dry, base = engines
    report = qdeploy.evaluate(dry, baseline=base, simulate=True, limit=32)
    assert report["simulated"] and report["metrics"]["n"] == 32
    assert report["baseline"]["sqnr_db"] > 5
    for name in ("latency_ms", "device_ms", "speedup", "memory_mb", "int8"):
        assert report[name] is None
    assert any("Simulated" in text for text in report["warnings"])
    json.dumps(report)


def test_a_baseline_of_a_dry_run_is_simulated_too(
    model: Path, engines: tuple[Path, Path], tmp_path: Path
) -> None:
    qdeploy.build(model, tmp_path / "fp16", strategy="fp16", target="tensorrt", dry_run=True)
    report = qdeploy.evaluate(engines[0], baseline=tmp_path / "fp16", simulate=True, limit=16)
    assert report["baseline"]["strategy"] == "fp16" and report["baseline"]["int8"] is None
    assert report["baseline"]["sqnr_db"] > 5


def test_the_page_and_the_card_say_that_it_was_simulated(
    engines: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page, card = tmp_path / "x.html", tmp_path / "card.md"
    qdeploy.evaluate(engines[0], simulate=True, limit=8, html=page, card=card)
    assert "Simulated: the graph for tensorrt ran on the CPU" in page.read_text("utf-8")
    assert "ran in INT8" not in card.read_text("utf-8")


def test_int8_cannot_be_required_of_a_simulation(engines: tuple[Path, Path]) -> None:
    with pytest.raises(PlanError, match="a simulation has none"):
        qdeploy.evaluate(engines[0], simulate=True, require_int8=0.9)


def test_a_simulation_without_accuracy_is_nothing(engines: tuple[Path, Path]) -> None:
    with pytest.raises(PlanError, match="accuracy alone"):
        qdeploy.evaluate(engines[0], simulate=True, accuracy=False)


def test_without_simulating_the_way_out_is_named(engines: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match="dry run"):
        qdeploy.evaluate(engines[0], limit=8)


def test_the_command(engines: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(engines[0]), "--simulate", "--limit", "8", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["simulated"]
