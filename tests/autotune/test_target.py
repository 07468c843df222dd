"""`--target auto`: builds for what works here, times it, keeps the fastest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.autotune import target as auto
from qdeploy.deploy.build import build_engine as own
from qdeploy.deploy.health import Health
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import OutputError, PlanError, TargetError, VerificationError
from qdeploy.files.artifact import read_json
from tests.exports import Exports


@pytest.fixture(scope="module")
def model(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model directory with statistics; not to be changed."""
    model = tmp_path_factory.mktemp("auto") / "model"
    shutil.copytree(exported().model_dir, model)
    qdeploy.calibrate(model, data="qnli-mini", calibration_rows=8)
    return model


def build(model: Path, engine: Path, **options: Any) -> Any:
    return qdeploy.build(
        model, engine, target="auto", data="qnli-mini", calibration_rows=8, **options
    )


def test_the_fastest_is_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    working = [name for name, target in TARGETS.items() if target.diagnose().works]
    assert working[:2] == ["ort-cpu", "openvino"]
    for best in working:
        times = {target: 1.0 if target == best else 2.0 for target in working}
        monkeypatch.setattr(auto, "times_of", lambda *_, times=times: ((8, 128), times))
        result = build(model, tmp_path / best)
        assert result["target"] == best
        manifest = read_json(tmp_path / best / "qdeploy.json")
        assert manifest["target"] == best
        assert manifest["auto"]["p50_ms"] == times
        assert manifest["calibration"]["rows"] == 8
        assert manifest["noise"] == result["noise"] and result["noise"]["rows"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(working)


def test_the_times_are_real_and_the_report_says_them(model: Path, tmp_path: Path) -> None:
    result = build(model, tmp_path / "engine", strategy="w8a8")
    times = result["auto"]["p50_ms"]
    assert all(ms > 0 for ms in times.values())
    assert result["target"] == min(times, key=times.__getitem__)
    report = qdeploy.evaluate(tmp_path / "engine", limit=8, latency=False)
    assert report["auto"] == result["auto"]
    assert report["int8"]["executed"] == report["int8"]["planned"]


def test_what_a_plan_needs_is_measured_once_for_all_targets(model: Path, tmp_path: Path) -> None:
    asked = {"strategy": "peg", "weight_rounding": "compensated", "sensitivity": True}
    build(model, tmp_path / "engine", **asked)
    plan = read_json(tmp_path / "engine" / "plan.json")
    assert {name: plan["options"][name] for name in asked if name != "strategy"} == {
        "weight_rounding": "compensated",
        "sensitivity": True,
    }


def test_a_target_that_cannot_is_left_out_with_its_reason(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    result = build_without_data(model, tmp_path / "engine")
    assert result["target"] == "ort-cpu"
    assert "strategy dynamic" in result["auto"]["skipped"]["openvino"]


def build_without_data(model: Path, engine: Path) -> Any:
    return qdeploy.build(model, engine, target="auto", strategy="dynamic")


def test_no_target_works(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in TARGETS.values():
        monkeypatch.setattr(target, "diagnose", lambda: Health(False, "it is not installed."))
    with pytest.raises(TargetError, match=r"No target takes this build\. ort-cpu: it is not inst"):
        build(model, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["data", "statistics"])
def test_a_file_that_is_read_is_never_replaced(model: Path, tmp_path: Path, option: str) -> None:
    engine = tmp_path / "engine"
    qdeploy.build(model, engine, strategy="fp32")
    (engine / "mine").write_text("mine")
    options: dict[str, Any] = {option: str(engine / "mine")}
    with pytest.raises(OutputError, match="overlap: replacing one would lose the other"):
        qdeploy.build(model, engine, target="auto", force=True, **options)
    assert (engine / "mine").is_file()


def test_a_dry_run_has_no_fastest(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="builds nothing that could be timed"):
        build(model, tmp_path / "engine", dry_run=True)


def test_a_misspelt_target(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="Did you mean 'auto'"):
        qdeploy.build(model, tmp_path / "engine", target="auot")


@pytest.mark.parametrize("error", [RuntimeError("no memory"), VerificationError("fell back")])
def test_a_target_that_breaks_does_not_lose_the_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pytest.importorskip("openvino")

    def build_engine(source: Path, engine: Path, asked: BuildOptions) -> Any:
        if asked.target == "openvino":
            raise error
        return own(source, engine, asked)

    monkeypatch.setattr(auto, "build_engine", build_engine)
    result = build(model, tmp_path / "engine", strategy="w8a8", opt_shape="1x3")
    assert result["target"] == "ort-cpu" and result["auto"]["shape"] == [1, 3]
    assert str(error) in result["auto"]["skipped"]["openvino"]
