"""Where a target compiles, `peg` takes the form that is measured to be the fastest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.autotune import treatment as measured
from qdeploy.autotune.strategy import build_within
from qdeploy.calibrate.plan import Plan
from qdeploy.cli import main
from qdeploy.deploy.build import build_engine as own
from qdeploy.deploy.lowering import cost_model as forms
from qdeploy.deploy.options import BuildOptions
from qdeploy.errors import GateError, OutputError, PlanError, QDeployWarning, TargetError
from qdeploy.files.artifact import read_json
from tests.calibrate.encoder import model_directory
from tests.standin import NAME, grouped_sites, standin

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("measured") / "model")


@pytest.fixture(autouse=True)
def target() -> Iterator[None]:
    with standin():
        yield


def build(model: Path, engine: Path, **options: Any) -> Any:
    return qdeploy.build(model, engine, target=NAME, calibration_rows=8, **options)


@pytest.fixture(scope="module")
def grouped(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sites with groups, with factors wherever they suffice and without any."""
    home, found = tmp_path_factory.mktemp("forms"), {}
    with standin():
        for prescale in ("everywhere", "none"):
            build(model, home / prescale, prescale=prescale)
            found[prescale] = grouped_sites(home / prescale)
    assert found["everywhere"] < found["none"]
    return found


def test_the_fastest_form_is_kept_and_the_manifest_says_why(
    model: Path, grouped: dict[str, int], tmp_path: Path
) -> None:
    """The estimate puts factors first here, and so does the stand-in's clock."""
    built = build(model, tmp_path / "engine")
    found = read_json(tmp_path / "engine" / "qdeploy.json")["forms"]
    assert found == built["forms"]
    assert set(found["p50_ms"]) == {"estimated", "groups"}  # "factors" is what was estimated
    assert found["kept"] == "estimated"
    assert found["p50_ms"]["estimated"] < found["p50_ms"]["groups"]
    assert found["estimated_us"]["kept"] == found["estimated_us"]["factors"]
    assert found["shape"] == [8, 64]
    noise = read_json(tmp_path / "engine" / "qdeploy.json")["noise"]
    assert noise == built["noise"] and noise["rows"] == 8 and not noise["simulated"]
    assert grouped_sites(tmp_path / "engine") == grouped["everywhere"]
    assert list(tmp_path.iterdir()) == [tmp_path / "engine"]


def test_what_was_measured_overrules_what_was_estimated(
    model: Path, grouped: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def groups(first: Plan, second: Plan, *_: Any) -> tuple[Plan, dict[str, Any]]:
        return second, {"estimated_us": {"factors": 9.0, "groups": 1.0, "kept": 1.0}}

    monkeypatch.setattr("qdeploy.deploy.planning.cheapest", groups)
    monkeypatch.setattr("tests.standin.SITE_MS", 4.0)  # more than a busy machine oversleeps
    built = build(model, tmp_path / "engine")
    assert built["forms"]["kept"] == "factors"
    assert set(built["forms"]["p50_ms"]) == {"estimated", "factors"}
    assert grouped_sites(tmp_path / "engine") == grouped["everywhere"]


@pytest.mark.parametrize(
    "options", [{"prescale": "none"}, {"prescale": "everywhere"}, {"groups": 2}]
)
def test_a_form_that_was_chosen_is_not_measured(
    options: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    assert "forms" not in build(model, tmp_path / "engine", **options)


def test_the_command_says_what_was_kept_and_what_comes_next(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--target", NAME, "--calibration-rows", "8"]
    assert main(["build", str(model), str(tmp_path / "engine"), *shared]) == 0
    out = capsys.readouterr().out
    assert "form: estimated, fastest of estimated" in out and "--baseline" in out
    assert main(["build", str(model), str(tmp_path / "dry"), "--dry-run", *shared]) == 0
    out = capsys.readouterr().out
    assert "by estimate for an NVIDIA L4" in out and "--simulate" in out


def test_a_dry_run_has_the_estimate_alone(model: Path, tmp_path: Path) -> None:
    found = build(model, tmp_path / "dry", dry_run=True)["forms"]
    assert set(found) == {"gpu", "estimated_us"}
    assert found["gpu"] == forms.L4.name


def test_one_calibration_serves_all_forms(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    home.mkdir()
    fresh = model_directory(home / "model")
    build(fresh, tmp_path / "engine", seed=3)
    assert len(list((fresh / "statistics").glob("*.npz"))) == 1
    manifest = read_json(tmp_path / "engine" / "qdeploy.json")
    assert (manifest["seed"], manifest["calibration"]["seed"]) == (3, 3)


def test_nothing_is_overwritten_and_wrong_use_is_said(model: Path, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "mine").touch()
    with pytest.raises(OutputError):
        build(model, tmp_path / "engine")
    with pytest.raises(PlanError, match="noise-target"):
        build(model, tmp_path / "other", noise_target=-1)
    with pytest.raises(TargetError, match="--activations"):
        build(model, tmp_path / "other", activations="asymmetric")
    assert [p.name for p in tmp_path.iterdir()] == ["engine"]


@pytest.mark.filterwarnings("default::qdeploy.errors.QDeployWarning")
def test_a_compiler_that_takes_a_float_kernel_is_said_and_not_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.standin.IN_FLOAT", {"layer.0.query"})
    with pytest.warns(QDeployWarning, match=r"1 of 12 planned GEMMs would not run in INT8"):
        built = build(model, tmp_path / "engine", strategy="w8a8")
    assert built["int8"]["fallbacks"][0]["site"] == "layer.0.query"
    with pytest.raises(GateError, match="L0 query ran as half_gemm"):
        qdeploy.evaluate(
            tmp_path / "engine", accuracy=False, latency=False, seq_len=32, require_int8=0.99
        )


def test_a_form_that_does_not_compile_is_no_reason_to_lose_the_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refusing(source: Path, engine: Path, asked: BuildOptions, **more: Any) -> Any:
        if asked.plan.prescale is None and not asked.dry_run:
            raise TargetError("TensorRT built no engine.")
        return own(source, engine, asked, **more)

    monkeypatch.setattr(measured, "build_engine", refusing)
    found = build(model, tmp_path / "engine")["forms"]
    assert found["kept"] == "groups" and found["failed"] == {
        "estimated": "TensorRT built no engine."
    }

    def never(source: Path, engine: Path, asked: BuildOptions, **more: Any) -> Any:
        if not asked.dry_run:
            raise TargetError("no engine.")
        return own(source, engine, asked, **more)

    monkeypatch.setattr(measured, "build_engine", never)
    with pytest.raises(TargetError, match=r"estimated: no engine\. groups: no engine"):
        build(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_missing_target_is_said_before_any_work(model: Path, tmp_path: Path) -> None:
    fresh = model_directory(tmp_path / "fresh")
    for strategy in ("auto", "peg"):
        with pytest.raises(TargetError, match="tensorrt"):
            qdeploy.build(fresh, tmp_path / "engine", target="tensorrt", strategy=strategy)
    assert not (fresh / "statistics").exists()


def test_auto_skips_targets_that_have_no_use_for_an_option(model: Path, tmp_path: Path) -> None:
    built = qdeploy.build(model, tmp_path / "engine", target="auto", refit=True, calibration_rows=8)
    assert built["target"] == NAME
    assert "--refit: ort-cpu has no use" in built["auto"]["skipped"]["ort-cpu"]


def test_targets_that_compile_nothing_have_one_form(model: Path, tmp_path: Path) -> None:
    built = qdeploy.build(model, tmp_path / "engine", calibration_rows=8)
    assert "forms" not in built


def test_auto_tries_fp16_and_groups_where_the_target_has_them(model: Path, tmp_path: Path) -> None:
    found = build_within(
        model, tmp_path / "engine", BuildOptions(strategy="auto", target=NAME, max_drop=50.0)
    )
    tried = {json.dumps(one["options"], sort_keys=True) for one in found["search"]["tried"]}
    assert '{"strategy": "fp16"}' in tried
    assert '{"prescale": "none", "strategy": "peg"}' in tried
    assert not any("dynamic" in one for one in tried)  # the target has no such form
    times = [one["p50_ms"] for one in found["search"]["tried"]]
    assert np.isfinite(times).all()
