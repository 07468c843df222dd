"""`ort-tensorrt-rtx`: what it writes on a machine without a GPU, and why it does not run there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qdeploy.deploy import trial
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import certify
from qdeploy.deploy.cuda import device
from qdeploy.deploy.health import Health
from qdeploy.deploy.inspect import inspect_path
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.ort import gpu as ort_gpu
from qdeploy.deploy.ort.gpu import OrtGpuEngine
from qdeploy.deploy.targets.ort_tensorrt_rtx import check, engine, provider
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt_rtx import directory as plans
from qdeploy.errors import ModelError, TargetError
from qdeploy.evaluate.size import engine_size
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.machine.remedies import install_command
from tests.deploy.conftest import Source
from tests.deploy.test_ort_gpu_engine import FakeStream
from tests.deploy.test_tensorrt_inspector import text as inspected

NAME = "ort-tensorrt-rtx"
GPU: Any = {"name": "Test GPU", "compute_capability": "8.9", "int8_tensor_cores": True}


def built(where: Source, output: Path, strategy: str = "peg", **options: Any) -> dict[str, Any]:
    """The certificate of an engine."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    usual: dict[str, Any] = {"target": NAME, "compute_capability": "8.9", "measure": False}
    statistics = None if strategy == "fp16" else where.statistics
    build_engine(
        where.directory, output, strategy=strategy, statistics=statistics, **(usual | options)
    )
    found: dict[str, Any] = read_json(output / "certificate.json")
    return found


@pytest.fixture(scope="module")
def written(bert: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine that was built without a GPU."""
    home = tmp_path_factory.mktemp("rtx") / "engine"
    built(bert, home, measure=True)
    return home


@pytest.fixture
def unregistered() -> Iterator[None]:
    """Nothing was loaded into this process yet."""
    provider.register.cache_clear()
    yield
    provider.register.cache_clear()


def plugin(monkeypatch: pytest.MonkeyPatch, error: str | None, devices: list[Any]) -> list[str]:
    """A package of the plugin, which registers or does not; the libraries that were registered."""
    seen: list[str] = []

    def register(name: str, path: str) -> None:
        assert name == provider.PROVIDER
        seen.append(path)
        if error is not None:
            raise RuntimeError(error)

    package = SimpleNamespace(get_library_path=lambda: "/where/lib.so")
    monkeypatch.setitem(sys.modules, provider.PACKAGE, package)
    monkeypatch.setattr(ort, "register_execution_provider_library", register)
    monkeypatch.setattr(ort, "get_ep_devices", lambda: devices)
    return seen


def test_the_directory_has_the_plan_and_its_wrapper(written: Path, bert: Source) -> None:
    names = {path.name for path in written.iterdir()}
    assert {"model.onnx", "model.plan", "builder.log", "layers.json"} <= names
    assert "model.onnx.data" not in names and "predict.py" not in names
    manifest = read_manifest(written, "engine")
    assert {"model.onnx", "model.plan"} <= set(manifest["files"])
    assert manifest["cuda_graph"] is True
    assert manifest["builder"]["compute_capabilities"] == ["8.9"]
    assert engine_size(written)["weights"] == (written / "model.plan").stat().st_size / 1e6
    assert (written / "model.onnx").stat().st_size < 1000


def test_the_wrapper_is_one_node_of_the_provider_with_the_names_and_types_of_the_engine(
    written: Path, bert: Source, tmp_path: Path
) -> None:
    built(bert, tmp_path / "dry", dry_run=True)
    wrapped, lowered = (ir.load(home / "model.onnx").graph for home in (written, tmp_path / "dry"))
    (node,) = wrapped
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    assert {name: attribute.value for name, attribute in node.attributes.items()} == {
        "main_context": 1,
        "embed_mode": 0,
        "ep_cache_context": "model.plan",
        "source": "NvTensorRTRTXExecutionProvider",
        "partition_name": "plan",
    }
    for found, expected in ((wrapped.inputs, lowered.inputs), (wrapped.outputs, lowered.outputs)):
        assert [(v.name, v.dtype, v.shape) for v in found] == [
            (v.name, v.dtype, v.shape) for v in expected
        ]
    manifest = read_manifest(written, "engine")
    assert [value.name for value in wrapped.inputs] == manifest["inputs"]
    assert [value.name for value in wrapped.outputs] == manifest["outputs"]


def test_the_wrapper_is_a_valid_file_whose_one_operator_no_other_provider_has(
    written: Path,
) -> None:
    checker = pytest.importorskip("onnx.checker")
    checker.check_model(str(written / "model.onnx"), full_check=True)
    with pytest.raises(Exception, match="EPContext") as refused:
        ort.InferenceSession(written / "model.onnx", providers=["CPUExecutionProvider"])
    assert type(refused.value).__name__ == "NotImplemented"
    with pytest.raises(ModelError, match="Build it with --dry-run"):
        inspect_path(written / "model.onnx", NAME)


def test_the_certificate_says_compiled_and_noise_is_that_of_the_graph(written: Path) -> None:
    certificate = read_json(written / "certificate.json")
    check = certificate["compiled"]
    assert "int8" not in certificate  # nothing ran
    assert check["executed"] == check["planned"] > 0
    assert "compiled as INT8" in check["summary"] and "nothing ran" in check["summary"]
    noise = read_manifest(written, "engine")["noise"]
    assert noise is not None and noise["simulated"] is True
    readme = (written / "README.md").read_text("utf-8")
    assert "It runs in ONNX Runtime, TensorRT-RTX provider, on RTX GPUs of compute" in readme
    assert "add_provider_for_devices" in readme and "onnxruntime_ep_nv_tensorrt_rtx" in readme
    assert "model.plan" in readme and "model.onnx.data" not in readme


def test_it_is_for_the_devices_that_the_provider_takes(bert: Source, tmp_path: Path) -> None:
    check = built(bert, tmp_path / "all", "w8a8", compute_capability=())["compiled"]
    assert tuple(check["compute_capabilities"]) == provider.CAPABILITIES
    for capability in ("7.5", "8.0"):
        with pytest.raises(TargetError, match=f"{capability}: .*8\\.6.*--target tensorrt-rtx"):
            built(bert, tmp_path / "refused", "w8a8", compute_capability=capability, dry_run=True)
    assert not (tmp_path / "refused").exists()


def test_fp8_is_compiled_for_the_devices_that_multiply_it(bert: Source, tmp_path: Path) -> None:
    check = built(bert, tmp_path / "fp8", "fp8", compute_capability=())["compiled"]
    assert check["compute_capabilities"] == ["8.9", "12.0", "12.1"]
    assert check["executed"] == check["planned"] > 0 and "FP8" in check["summary"]
    with pytest.raises(TargetError, match=r"FP8 needs 8\.9.*--strategy peg"):
        built(bert, tmp_path / "none", "fp8", compute_capability="8.6")


def test_running_it_needs_the_gpu(written: Path) -> None:
    try:
        device()
    except TargetError:
        with pytest.raises(TargetError, match=r"compute capability 8\.9.*--dry-run.*--simulate"):
            open_engine(written)
        assert not TARGETS[NAME].runs_here()
    else:
        pytest.skip("there is a GPU here")


@pytest.mark.usefixtures("unregistered")
def test_the_doctor_tells_building_from_running() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    found = TARGETS[NAME].diagnose()
    assert found.builds and "builds engines here, with INT8 GEMMs" in found.detail
    if not found.works:
        assert "They do not run here" in found.detail and found.remedy
    if isinstance(_package(), Exception):
        assert f"{provider.PACKAGE} cannot be imported" in found.detail
        assert "pip install" in found.remedy


def _package() -> object:
    try:
        return __import__(provider.PACKAGE)
    except ImportError as error:
        return error


@pytest.mark.usefixtures("unregistered")
def test_the_real_plugin_says_why_it_does_not_load() -> None:
    pytest.importorskip(provider.PACKAGE, reason="the plugin is not installed")
    try:
        device()
    except TargetError:
        with pytest.raises(TargetError, match="does not load NvTensorRTRTX.*NVIDIA driver"):
            provider.provider_device()
    else:
        pytest.skip("there is a GPU here")


# What ONNX Runtime 1.31.1 says of version 0.5.0 where there is no driver.
NO_DRIVER = (
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /where/lib.so with error: "
    "libcuda.so.1: cannot open shared object file: No such file or directory"
)


@pytest.mark.usefixtures("unregistered")
def test_a_plugin_without_a_driver_is_told_apart_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, NO_DRIVER, [])
    found = check.tried("Type: pip install all")
    assert not found.works and "ONNXRuntimeError" not in found.detail
    assert "lib.so with error: libcuda.so.1: cannot open" in found.detail
    assert "comes with the NVIDIA driver" in found.detail and "NVIDIA driver" in found.remedy
    monkeypatch.setitem(sys.modules, provider.PACKAGE, None)
    provider.register.cache_clear()
    found = check.tried("Type: pip install all")
    assert "cannot be imported" in found.detail
    assert install_command("ort-tensorrt-rtx") in found.remedy


@pytest.mark.usefixtures("unregistered")
def test_a_gpu_that_the_provider_does_not_take_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(ep_name="CPUExecutionProvider")
    seen = plugin(monkeypatch, None, [other])
    hopper = {"name": "H100", "compute_capability": "9.0"}
    monkeypatch.setattr(provider, "device", lambda: hopper)
    for _ in range(2):
        with pytest.raises(TargetError, match=r"takes no GPU .*\(H100, 9\.0\).*8\.6, 8\.9"):
            provider.provider_device()
    assert len(seen) == 1  # ONNX Runtime takes a library once
    provider.register.cache_clear()
    again = f"EP library is already registered under {provider.PROVIDER}"
    plugin(monkeypatch, again, [SimpleNamespace(ep_name=provider.PROVIDER)])
    assert provider.provider_device().ep_name == provider.PROVIDER


@pytest.mark.usefixtures("unregistered")
def test_with_everything_here_the_gemm_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, None, [SimpleNamespace(ep_name=provider.PROVIDER)])
    monkeypatch.setattr(
        check, "tried_on_gpu", lambda version, attempt, install: Health(True, version)
    )
    assert check.tried("") == Health(True, f"onnxruntime {ort.__version__}")
    monkeypatch.setattr(plans, "device", lambda: GPU)
    assert TARGETS[NAME].runs_here()
    assert not engine.runs_here(("8.6",))


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("graphs", [True, False])
def test_a_session_is_on_the_provider_with_its_options(
    graphs: bool, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SimpleNamespace(ep_name=provider.PROVIDER)
    plugin(monkeypatch, None, [one, one])
    given: list[Any] = []

    class Options:
        def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
            given.append((devices, options))

    class Session:
        def __init__(self, path: Path, options: Options, **_: Any) -> None:
            assert path == written / "model.onnx" and isinstance(options, Options)

        def get_providers(self) -> list[str]:
            return [provider.PROVIDER, "CPUExecutionProvider"]

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="input_ids")]

        get_outputs = get_inputs

    monkeypatch.setattr(ort, "SessionOptions", Options)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort_gpu, "Stream", FakeStream)
    monkeypatch.setattr(plans, "device", lambda: GPU)
    fields: Any = {**read_manifest(written, "engine"), "cuda_graph": graphs}
    opened = engine.open_directory(written, fields, 1)
    assert opened.graphs is graphs and opened.input_names == ("input_ids",)
    stream = {"has_user_compute_stream": "1", "user_compute_stream": "0"}
    assert given == [([one], {**stream, "enable_cuda_graph": "1" if graphs else "0"})]


class FakeBuffer:
    """Memory of the host."""

    made: ClassVar[list[FakeBuffer]] = []

    def __init__(self, size: int) -> None:
        self.memory = np.zeros(size, np.uint8)
        self.pointer = self.memory.ctypes.data
        self.made.append(self)

    def fill(self, array: Any, stream: Any) -> None:
        self.memory[:] = np.frombuffer(array.tobytes(), np.uint8)


class OnCpu(engine.OrtTensorRtRtxEngine):
    """The engine with the provider that is here."""

    provider, device = "CPUExecutionProvider", "cpu"

    def _start(self, options: Any) -> Any:
        return ort.InferenceSession(self.path, options, providers=[self.provider])


def test_a_bound_run_reads_and_writes_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_gpu, "Stream", FakeStream)
    monkeypatch.setattr(engine, "Buffer", FakeBuffer)
    ir.save(trial.half_gemm(integer=True), tmp_path / "model.onnx")
    opened = OnCpu(tmp_path / "model.onnx", graphs=False)
    x = np.linspace(-1, 1, 256 * 512, dtype=np.float32).reshape(256, 512)
    (expected,) = opened.run({"x": x}).values()
    run = opened.bind({"x": x[:, ::-1]})
    source, target = FakeBuffer.made
    source.memory[:] = np.frombuffer(x.tobytes(), np.uint8)
    target.memory[:] = 0
    run()
    np.testing.assert_array_equal(target.memory.view(np.float32).reshape(256, 512), expected)
    opened.read_clock()
    assert opened.device_times == [0.25]


class FakeOpened:
    """A plan of which the inspector says what the sample says."""

    def __init__(self, plan: bytes, library: Any) -> None:
        assert plan == b"plan" and library.title == "TensorRT-RTX"

    def information(self) -> str:
        return inspected(10)


@pytest.mark.parametrize("stray", [False, True])
def test_the_plan_is_the_witness_and_a_stray_node_its_fault(
    stray: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def events(self: OrtGpuEngine, feeds: Mapping[str, Any], iterations: int) -> list[Any]:
        where = "CPUExecutionProvider" if stray else provider.PROVIDER
        return [{"cat": "Node", "name": "plan_kernel_time", "dur": 5, "args": {"provider": where}}]

    monkeypatch.setattr(engine, "Opened", FakeOpened)
    monkeypatch.setattr(engine.OrtTensorRtRtxEngine, "events", events)
    (tmp_path / "model.plan").write_bytes(b"plan")
    made = engine.OrtTensorRtRtxEngine.__new__(engine.OrtTensorRtRtxEngine)
    made.path = tmp_path / "model.onnx"
    gemm: Any = {"precision": "int8", "reason": "", "flops": 1, "float_flops": 0}
    gemm["marks"] = [["w", "layer.0.query"]]
    planned: Any = {"planned_gemms": {"q": gemm}, "other_products": {}, "flops_measured": True}
    report = certify(made, planned, {})
    assert report["executed"] == (0 if stray else 1)


def test_wrapping_twice_changes_nothing(written: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.plan"):
        (tmp_path / name).write_bytes((written / name).read_bytes())
    engine.wrap(tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == (written / "model.onnx").read_bytes()


def test_a_machine_without_the_compiler_is_told_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    command = install_command("ort-tensorrt-rtx")
    with pytest.raises(TargetError, match=f"tensorrt_rtx cannot be imported.*{re.escape(command)}"):
        TARGETS[NAME].require()
    found = TARGETS[NAME].diagnose()
    assert found.builds is False and command in found.remedy


def test_where_its_gpu_is_the_wrapper_is_opened(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: Any = read_manifest(written, "engine")
    target = TARGETS[NAME]
    assert target.open_built(tmp_path, fields | {"builder": None}, 1) is None
    wrapped: list[Path] = []
    monkeypatch.setattr(engine, "runs_here", lambda capabilities: capabilities == ("8.9",))
    monkeypatch.setattr(engine, "wrap", wrapped.append)
    monkeypatch.setattr(engine, "open_directory", lambda *_: "opened")
    assert target.open_built(tmp_path, fields, 1) == "opened"  # type: ignore[comparison-overlap]
    assert wrapped == [tmp_path]
