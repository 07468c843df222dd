"""What a report says of a GPU target: both clocks, the CUDA graph, and FP16 as what to beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy import api
from qdeploy.cli import evaluation
from qdeploy.evaluate.report import suspicions
from qdeploy.schemas.evaluation import Evaluation
from tests.calibrate.encoder import model_directory
from tests.documents import assert_is
from tests.standin import NAME, standin

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning"),
]
SHORT: dict[str, Any] = {"seq_len": 32, "warmup": 2, "iterations": 20, "accuracy": False}


@pytest.fixture(scope="module", autouse=True)
def target() -> Iterator[None]:
    with standin(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.standin.SITE_MS", 5.0)  # a busy machine oversleeps by a few of them
        yield


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fp16`, `quick` (faster than it) and `slow` (slower), by the stand-in's clock."""
    home = tmp_path_factory.mktemp("gpu")
    model = model_directory(home / "model")
    shared: dict[str, Any] = {"target": NAME}
    qdeploy.build(model, home / "fp16", strategy="fp16", **shared)
    shared["calibration_rows"] = 8
    qdeploy.build(model, home / "quick", strategy="w8a8", **shared)
    qdeploy.build(model, home / "slow", groups=4, **shared)
    qdeploy.build(model, home / "fp32", strategy="fp32")
    return home


def report(engines: Path, name: str, baseline: str | None, **options: Any) -> Evaluation:
    base = None if baseline is None else engines / baseline
    return api.evaluate(engines / name, baseline=base, **SHORT, **options)


def said(found: Evaluation) -> list[str]:
    return [text for text in found["warnings"] if "FP16" in text]


def test_both_clocks_and_the_launch_are_reported(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(engines, "quick", "fp16")
    assert_is(found, Evaluation)
    assert found["cuda_graph"] is True
    assert found["device_ms"]["p50"] == 1.0 and found["baseline"]["device_ms"]["p50"] == 11.0
    assert found["latency_ms"]["p50"] > 1.0
    evaluation.table(found)
    assert "1.00 ms (median, one CUDA graph)" in capsys.readouterr().out


def test_the_page_has_the_devices_clock(engines: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    report(engines, "quick", "fp16", html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "engine, on the device" in page and "baseline (fp16), on the device" in page
    assert "as one CUDA graph" in page


def test_an_engine_that_beats_fp16_is_left_alone(engines: Path) -> None:
    found = report(engines, "quick", "fp16")
    assert found["speedup"]["ci95"][0] > 1
    assert said(found) == []


def test_fp16_is_recommended_where_int8_is_no_faster(engines: Path) -> None:
    (text,) = said(report(engines, "slow", "fp16"))
    assert "not faster than FP16" in text and str(engines / "fp16") in text


@pytest.mark.parametrize("baseline", [None, "quick", "fp32"])
def test_another_baseline_is_not_enough(baseline: str | None, engines: Path) -> None:
    (text,) = said(report(engines, "slow", baseline))
    assert "--baseline fp16" in text


def test_nothing_is_asked_of_fp16_itself_nor_of_other_targets(engines: Path) -> None:
    assert said(report(engines, "fp16", None)) == []
    assert said(report(engines, "fp32", None)) == []


def test_a_draw_is_no_win(engines: Path) -> None:
    found = report(engines, "quick", "fp16")
    found["speedup"] = {"ratio": 1.01, "ci95": [0.99, 1.03]}
    (text,) = [t for t in suspicions(found, None) if "FP16" in t]
    assert "1.01 × (0.99 to 1.03)" in text
