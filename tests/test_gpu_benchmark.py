"""benchmarks/gpu.py from start to end, on a target that stands in for a GPU's."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qdeploy.errors import ModelError
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
    monkeypatch.setattr(module.steps, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "SHAPES", ((1, 16), (8, 32)))
    monkeypatch.setattr(module.steps, "TOKENS", 64)
    monkeypatch.setattr(module.steps, "BUILT_FOR", {"opt_shape": "8x32"})
    monkeypatch.setattr(module.qdeploy, "export", lambda _, path: model_directory(path))
    own = module.qdeploy.evaluate

    def short(engine: Path, **options: Any) -> dict[str, Any]:
        report: dict[str, Any] = own(engine, **(options | {"iterations": 20, "limit": 16}))
        return report

    monkeypatch.setattr(module.qdeploy, "evaluate", short)
    yield module
    for name in ("machine", "shapes", "gpu_run", "gpu_rtx", "gpu_ceilings"):
        sys.modules.pop(name, None)


def result(tmp_path: Path) -> dict[str, Any]:
    (written,) = (tmp_path / "results").iterdir()
    found: dict[str, Any] = read_json(written)
    return found


def steps(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = result(tmp_path)["steps"]
    return found


def tensorrt_rtx() -> bool:
    return importlib.util.find_spec("tensorrt_rtx") is not None


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
    timed = found[f"time embedded, {NAME}, w8a8, 1x16"]
    assert timed["fp16_device_ms"]["p50"] == 3.0
    assert timed["times_fp16"] == 3.0 and timed["faster"] == "this engine"
    if "not_run" in (fp8 := found[f"build embedded, {NAME}, fp8"]):  # no GPU, or an older one
        assert fp8["not_run"] and f"time embedded, {NAME}, fp8, 1x16" not in found
    assert "device" in found["does this device take TensorRT-RTX"] or not tensorrt_rtx()
    assert result(tmp_path)["faster"][f"time embedded, {NAME}, w8a8, 1x16"]["times_fp16"] == 3.0
    assert result(tmp_path)["nvidia_smi"] and result(tmp_path)["doctor"]["gpu"]
    json.dumps(found)


@pytest.mark.slow
def test_a_step_that_breaks_leaves_its_reason_and_the_others(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("CUDA error: no kernel image")

    monkeypatch.setattr(benchmark, "ceilings", lambda _: broken())
    with standin():
        benchmark.main(["--targets", NAME, "--models", "embedded"])
    found = steps(tmp_path)
    assert "no kernel image" in found["ceilings"]["error"] and found["ceilings"]["at"]
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
    assert len(builds) == len(benchmark.TARGETS)
    assert all("error" in entry for entry in builds.values())
    assert "not_run" in found["ceilings"]
    assert "at" not in builds["build embedded, tensorrt, fp16"]  # an explanation, no traceback
    assert "No GPU target works here" in capsys.readouterr().out


def test_the_plan_names_every_step_and_does_none(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main(["--plan"])
    said = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "results").exists()
    assert "does this device take TensorRT-RTX" in said and "ceilings" in said
    for target in benchmark.TARGETS:
        assert f"time base, {target}, peg, 8x32" in said
        assert (f"build embedded, {target}, fp8" in said) == (target != "ort-cuda")
    assert "load embedded, tensorrt-rtx, fp8" in said
    assert said[-1] == f"{len(said) - 1} steps, where every target works; none was done."


def test_goals_are_held_against_the_fastest_int8_engine(benchmark: Any) -> None:
    times = {
        "time base, tensorrt, w8a8, 1x128": 1.1,
        "time base, tensorrt, peg, 1x128": 1.3,
        "time base, tensorrt, fp8, 128x128": 1.9,  # no INT8
        "time base, tensorrt, peg, 128x128": 1.6,
        "time large, ort-cuda, peg, 8x128": 1.2,
        "time base, ort-cuda, peg, 8x128": 0.9,
    }
    entries = {label: {"times_fp16": t, "faster": "FP16"} for label, t in times.items()}
    goals = benchmark.verdicts({"steps": entries | {"export base": {}}})["goals"]
    assert {name: goal["reached"] for name, goal in goals.items()} == {
        "tensorrt, 1 rows: INT8 1.2 times FP16": True,
        "tensorrt, 128 rows: INT8 1.7 times FP16": False,
        "ort-cuda, 8 rows: INT8 1.0 times FP16": False,
    }


def test_ceilings_multiply_in_every_kind_and_tell_the_rate(benchmark: Any) -> None:
    """On the CPU, whose torch has all three products; the clock is made up."""
    torch = pytest.importorskip("torch")
    ceilings: Any = sys.modules["gpu_ceilings"]
    seen: list[list[Any]] = []

    def clock(_: Any, work: Any) -> float:
        seen.append(work())
        return 0.5

    ceilings.SIZES = {}
    ceilings.EMBEDDED = (64, 3, 4, 128)
    (entry,) = ceilings.of_shapes(torch, [(2, 32)], "cpu", clock).values()
    tera = 2 * 64 * 3 * (4 * 64 * 64 + 2 * 64 * 128) / 1e12
    assert entry["fp16"]["ms"] == 1.5 and entry["fp16"]["form"] == "matmul"
    assert entry["fp16"]["TFLOPS"] == pytest.approx(tera / 1.5e-3)
    assert entry["int8"]["TOPS"] == entry["fp16"]["TFLOPS"] and entry["int8"]["times_fp16"] == 1
    assert entry["fp8"].get("not_run") or "_scaled_mm" in entry["fp8"]["form"]
    assert [tuple(one.shape) for one in seen[0]] == [(64, 64)] * 4 + [(64, 128), (64, 64)]


def test_a_kind_that_a_device_lacks_leaves_its_reason(benchmark: Any) -> None:
    torch = pytest.importorskip("torch")
    ceilings: Any = sys.modules["gpu_ceilings"]

    class Lacking:
        """torch on a device without FP8 and without int8 products."""

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def _int_mm(self, *_: Any) -> Any:
            raise RuntimeError("_int_mm needs compute capability 7.5")

        def _scaled_mm(self, *_: Any, **given: Any) -> Any:
            raise RuntimeError(f"only supported from 8.9 on, {given['scale_a'].ndim}")

    ceilings.SIZES = {}
    (entry,) = ceilings.of_shapes(
        Lacking(), [(1, 16)], "cpu", lambda _, work: work() and 1.0
    ).values()
    assert entry["fp16"]["ms"] == 6.0
    assert entry["int8"] == {"not_run": "RuntimeError: _int_mm needs compute capability 7.5"}
    assert entry["fp8"] == {"not_run": "RuntimeError: only supported from 8.9 on, 0"}


def test_scalar_scales_take_the_place_of_row_wise_ones(benchmark: Any) -> None:
    torch = pytest.importorskip("torch")
    ceilings: Any = sys.modules["gpu_ceilings"]

    class Older:
        """torch on Ada, of a version that has row-wise scales for Hopper alone."""

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def _scaled_mm(self, *given: Any, **options: Any) -> Any:
            if options["scale_a"].ndim:
                raise RuntimeError("row-wise needs 9.0")
            return given

    form, work = ceilings.products(Older(), "fp8", 32, [(16, 16)], "cpu")
    assert form == "_scaled_mm, scalar scales" and work()


def test_what_tensorrt_rtx_says_of_this_device_is_the_entry(benchmark: Any) -> None:
    if not tensorrt_rtx():
        pytest.skip("TensorRT-RTX is not installed")
    found = sys.modules["gpu_rtx"].takes_rtx()
    json.dumps(found)
    assert found["tensorrt_rtx"] and found["log"]
    assert "validity" in found["validity"] or found["validity"]["said"]
    assert found["plan"]["runs"] or found["plan"]["said"]
    assert found["provider"]["takes"] or found["provider"]["said"]


def test_kernels_are_loaded_without_and_with_what_was_kept(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx: Any = sys.modules["gpu_rtx"]
    assert "no kernels.cache" in rtx.jit_times(tmp_path, ((1, 8),))["not_run"]
    given: list[bytes] = []

    class Engine:
        def __init__(self, plan: Path, *, kernels: bytes, **_: Any) -> None:
            assert plan == tmp_path / "model.plan"
            given.append(kernels)

        def run(self, feeds: dict[str, Any]) -> None:
            if feeds["input_ids"].shape != (1, 8):
                raise ModelError("outside the shapes")

    monkeypatch.setattr(rtx, "TensorRtEngine", Engine)
    monkeypatch.setattr(rtx, "read_manifest", lambda *_: {"inputs": ["input_ids"]})
    (tmp_path / "kernels.cache").write_bytes(b"kept")
    found = rtx.jit_times(tmp_path, ((1, 8), (9, 9)))
    assert given == [b"", b"kept", b""]
    assert found["with"]["1x8 first_s"] >= 0 and found["with"]["9x9 first"] == "outside the shapes"
