"""benchmarks/gpu.py from start to end, on a target that stands in for a GPU's."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qdeploy.files.artifact import read_json
from tests.calibrate.encoder import model_directory
from tests.standin import NAME, standin

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning"),
]


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, on a tiny model and short of everything."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu", BENCHMARKS / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "SHAPES", ((1, 16), (8, 32)))
    monkeypatch.setattr(module, "TOKENS", 64)
    monkeypatch.setattr(module, "BUILT_FOR", {"opt_shape": "8x32"})
    monkeypatch.setattr(module.qdeploy, "export", lambda _, path: model_directory(path))
    own = module.qdeploy.evaluate

    def short(engine: Path, **options: Any) -> dict[str, Any]:
        report: dict[str, Any] = own(engine, **(options | {"iterations": 20, "limit": 16}))
        return report

    monkeypatch.setattr(module.qdeploy, "evaluate", short)
    yield module
    for name in ("machine", "shapes"):
        sys.modules.pop(name, None)


def steps(tmp_path: Path) -> dict[str, Any]:
    (found,) = (tmp_path / "results").iterdir()
    steps: dict[str, Any] = read_json(found)["steps"]
    return steps


def test_every_step_leaves_its_entry(benchmark: Any, tmp_path: Path) -> None:
    with standin():
        benchmark.main(["--targets", f"{NAME},tensorrt", "--models", "embedded"])
    found = steps(tmp_path)
    assert "error" in found["build embedded, tensorrt, fp16"]  # it does not work here
    assert not any("tensorrt, w8a8" in label for label in found)
    peg = found[f"build embedded, {NAME}, peg"]
    assert peg["int8"]["executed"] == peg["int8"]["planned"] and peg["forms"]["p50_ms"]
    for strategy in ("fp16", "w8a8", "w8a8-residuals", "peg"):
        assert 0 <= found[f"accuracy {NAME}, {strategy}"]["accuracy"] <= 1
        if strategy != "fp16":
            timed = found[f"time embedded, {NAME}, {strategy}, 8x32"]
            assert timed["device_ms"]["p50"] > 0 and timed["speedup"]["ratio"] > 0
    assert found[f"accuracy {NAME}, smoothquant"]["n"] == 16
    assert found[f"time embedded, {NAME}, w8a8, 1x16"]["fp16_device_ms"]["p50"] == 3.0
    json.dumps(found)


@pytest.mark.slow
def test_a_step_that_breaks_leaves_its_reason_and_the_others(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("CUDA error: no kernel image")

    monkeypatch.setattr(benchmark, "ceiling", broken)
    with standin():
        benchmark.main(["--targets", NAME, "--models", "embedded"])
    found = steps(tmp_path)
    assert "no kernel image" in found["ceiling"]["error"] and found["ceiling"]["at"]
    assert found[f"time embedded, {NAME}, peg, 8x32"]["device_ms"]


@pytest.mark.parametrize("wrong", [["--targets", "tensorr"], ["--models", "huge"]])
def test_wrong_use_is_said_before_anything_runs(
    wrong: list[str], benchmark: Any, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(wrong)
    assert not (tmp_path / "results").exists()


def test_what_the_minutes_do_not_suffice_for_is_said(benchmark: Any, tmp_path: Path) -> None:
    with standin():
        benchmark.main(["--targets", NAME, "--models", "embedded", "--minutes", "0"])
    found = steps(tmp_path)
    assert found
    assert {entry.get("not_run") for entry in found.values()} == {"no time was left"}


def test_without_a_gpu_the_reasons_are_the_result(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main(["--models", "embedded"])
    found = steps(tmp_path)
    builds = {label: entry for label, entry in found.items() if label.startswith("build")}
    assert len(builds) == 3 and all("error" in entry for entry in builds.values())
    assert "at" not in builds["build embedded, tensorrt, fp16"]  # an explanation, no traceback
    assert "No GPU target works here" in capsys.readouterr().out
