"""The engines of ONNX Runtime on a GPU, as far as its CPU provider can stand in for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import certify
from qdeploy.deploy.inspect import inspect_path
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.ort import gpu as ort_gpu
from qdeploy.deploy.ort.gpu import OrtGpuEngine
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets.ort_tensorrt import engine as ort_tensorrt_engine
from qdeploy.deploy.targets.ort_tensorrt.engine import OrtTensorRtEngine, wrapper
from qdeploy.deploy.targets.tensorrt import directory as plans
from qdeploy.deploy.targets.tensorrt.api import Library
from qdeploy.errors import ModelError, RunError, TargetError
from qdeploy.evaluate.size import engine_size
from qdeploy.files.artifact import read_json
from tests.deploy.conftest import Source
from tests.deploy.test_tensorrt_inspector import text as inspected

CPU = "CPUExecutionProvider"


class FakeStream:
    """What happens in it is written down."""

    pointer = 0

    def __init__(self) -> None:
        self.log: list[str] = []

    def begin(self) -> None:
        self.log.append("begin")

    def end(self) -> None:
        self.log.append("end")

    def wait(self) -> None:
        self.log.append("wait")

    def elapsed_ms(self) -> float:
        return 0.25


class OnCpu(OrtGpuEngine):
    """ort-cuda's engine with the provider that is here."""

    provider, device = CPU, "cpu"


@pytest.fixture(autouse=True)
def stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_gpu, "Stream", FakeStream)


@pytest.fixture(scope="module")
def lowered(bert: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dry run for ort-cuda."""
    home = tmp_path_factory.mktemp("ort") / "engine"
    build_engine(bert.directory, home, target="ort-cuda", statistics=bert.statistics, dry_run=True)
    return home


def test_runs_are_those_of_the_graph(lowered: Path, bert: Source) -> None:
    engine = OnCpu(lowered / "model.onnx")
    feeds = bert.feeds()
    (found,) = engine.run(feeds).values()
    (expected,) = SimulatedEngine(lowered / "model.onnx").run(feeds).values()
    np.testing.assert_allclose(found, np.asarray(expected, np.float32), atol=2e-2)


def test_a_bound_run_is_between_two_events(lowered: Path, bert: Source) -> None:
    engine = OnCpu(lowered / "model.onnx")
    run = engine.bind(bert.feeds() | {"unused": np.ones(1)})
    for _ in range(2):
        run()
        engine.read_clock()
    assert engine._stream.log == ["begin", "end", "wait"] * 2  # type: ignore[attr-defined]
    assert engine.device_times == [0.25, 0.25]


def test_int8_on_another_provider_is_no_int8_and_nothing_is_timed(
    lowered: Path, bert: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = read_json(lowered / "certificate.json")
    engine = OnCpu(lowered / "model.onnx")
    report = certify(engine, planned, bert.feeds())
    assert report["planned"] > 0 and report["executed"] == 0
    assert {f["reason"] for f in report["fallbacks"]} == {f"it ran on {CPU}"}
    assert report["time_share"] is None
    assert any(ms.ms > 0 for ms in engine.profile(bert.feeds(), 1))

    monkeypatch.setattr(ort_gpu, "CUDA", CPU)
    report = certify(engine, planned, bert.feeds())
    assert report["executed"] == report["planned"]
    assert report["kernels"]["MatMulInteger"] >= report["planned"]


def test_another_provider_than_asked_for_is_refused(lowered: Path) -> None:
    with pytest.raises((ModelError, TargetError), match="CUDAExecutionProvider"):
        OrtGpuEngine(lowered / "model.onnx")


def test_a_run_that_fails_is_an_error_and_no_fallback(lowered: Path, bert: Source) -> None:
    engine = OnCpu(lowered / "model.onnx")
    wrong = {name: array.astype(np.float32) for name, array in bert.feeds().items()}
    with pytest.raises(RunError, match=f"does not run in {CPU}: "):
        engine.run(wrong)


def test_a_device_that_fails_is_no_fault_of_the_graph(
    lowered: Path, bert: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnCpu(lowered / "model.onnx")

    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError("CUDA failure 700: an illegal memory access")

    monkeypatch.setattr(engine, "_session", Failing())
    with pytest.raises(TargetError, match=f"{CPU} did not run: CUDA failure 700"):
        engine.run(bert.feeds())


def test_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"broken")
    with pytest.raises(ModelError, match="does not load"):
        OnCpu(tmp_path / "model.onnx")


def test_the_wrapper_is_a_graph_that_onnxruntime_knows(lowered: Path, tmp_path: Path) -> None:
    outside = wrapper(ir.load(lowered / "model.onnx"))
    ir.save(outside, tmp_path / "model.onnx")
    (tmp_path / "model.plan").write_bytes(bytes(1000))
    (node,) = ir.load(tmp_path / "model.onnx").graph
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    assert node.attributes["ep_cache_context"].value == "model.plan"
    names = [value.name for value in ir.load(lowered / "model.onnx").graph.inputs]
    assert [value.name for value in node.inputs if value is not None] == names
    # a valid graph whose one operator no provider here has
    with pytest.raises(Exception, match="EPContext") as refused:
        ort.InferenceSession(tmp_path / "model.onnx", providers=[CPU])
    assert type(refused.value).__name__ == "NotImplemented"
    assert engine_size(tmp_path)["weights"] == 1000 / 1e6


def test_a_wrapper_has_nothing_to_inspect(lowered: Path, tmp_path: Path) -> None:
    ir.save(wrapper(ir.load(lowered / "model.onnx")), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="Build it with --dry-run"):
        inspect_path(tmp_path / "model.onnx", "ort-tensorrt")


def test_compiling_leaves_the_plan_and_its_wrapper(
    lowered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_plan(directory: Path, *_: Any) -> dict[str, Any]:
        for left in directory.glob("model.onnx*"):
            left.unlink()
        (directory / "model.plan").write_bytes(b"plan")
        return {"builder": {"tensorrt": "10.16"}, "cuda_graph": True}

    monkeypatch.setattr(plans, "compile_directory", compile_plan)
    for path in lowered.glob("model.onnx*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    fields: Any = {}
    found = ort_tensorrt_engine.compile_directory(tmp_path, fields, (8, 128), CompileOptions())
    assert found == {"builder": {"tensorrt": "10.16"}}  # the provider launches no graph of ours
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.plan"]


class FakeOpened:
    """A plan of which the inspector says what the sample says."""

    def __init__(self, plan: bytes) -> None:
        assert plan == b"plan"

    def information(self) -> str:
        return inspected(10)


@pytest.mark.parametrize("stray", [False, True])
def test_the_plan_is_the_witness_and_a_stray_node_its_fault(
    stray: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def events(self: OrtGpuEngine, feeds: Mapping[str, Any], iterations: int) -> list[Any]:
        provider = "CUDAExecutionProvider" if stray else "TensorrtExecutionProvider"
        return [
            {"cat": "Node", "name": "plan_kernel_time", "dur": 5, "args": {"provider": provider}}
        ]

    monkeypatch.setattr(ort_tensorrt_engine, "Opened", FakeOpened)
    monkeypatch.setattr(OrtTensorRtEngine, "events", events)
    (tmp_path / "model.plan").write_bytes(b"plan")
    engine = OrtTensorRtEngine.__new__(OrtTensorRtEngine)
    engine.path = tmp_path / "model.onnx"
    gemm: Any = {"precision": "int8", "reason": "", "flops": 1, "float_flops": 0}
    gemm["marks"] = [["w", "layer.0.query"]]
    report = certify(
        engine, {"planned_gemms": {"q": gemm}, "other_products": {}, "flops_measured": True}, {}
    )
    assert report["executed"] == (0 if stray else 1)
    assert report["time_share"] is None
    if stray:
        assert "plan on CUDAExecutionProvider" in report["fallbacks"][0]["reason"]


@pytest.fixture
def everything_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine with all that ort-tensorrt needs, of a version of TensorRT."""

    def make(version: str) -> None:
        monkeypatch.setattr(ort_tensorrt_engine, "device", lambda: {"name": "Test GPU"})
        monkeypatch.setattr(ort_tensorrt_engine, "require_provider", lambda _: None)
        package = type("package", (), {"__version__": version})
        monkeypatch.setattr(Library, "package", lambda self: package)

    return make


def test_the_provider_is_of_tensorrt_10(everything_here: Callable[[str], None]) -> None:
    everything_here("10.16.1")
    ort_tensorrt_engine.require()
    everything_here("11.4.0")
    with pytest.raises(TargetError, match=r"here is 11\.4\.0.*'tensorrt<11'"):
        ort_tensorrt_engine.require()
