"""What the TensorRT engine does with buffers, shapes and CUDA graphs, on a device made of numpy.

The device counts what it is asked for; whether a real one agrees only a GPU can tell
(tests/gpu).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.targets.tensorrt import directory
from qdeploy.deploy.targets.tensorrt import engine as engines
from qdeploy.deploy.targets.tensorrt.engine import TensorRtEngine
from qdeploy.errors import DataError, ModelError, PlanError, QDeployWarning, TargetError

Array = npt.NDArray[Any]
MOST = (4, 16)


class Device:
    """What happened, and the memory."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.memory: dict[int, Array] = {}
        self.recording = False
        self.refuses_graphs = False

    def of(self, pointer: int, size: int) -> Array:
        return self.memory[pointer][:size]


DEVICE = Device()


class FakeStream:
    pointer = 7

    def begin(self) -> None:
        DEVICE.log.append("begin")

    def end(self) -> None:
        DEVICE.log.append("end")

    def wait(self) -> None:
        DEVICE.log.append("wait")

    def elapsed_ms(self) -> float:
        return 0.5


class FakeBuffer:
    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer = 1000 + len(DEVICE.log)
        DEVICE.log.append("malloc")
        DEVICE.memory[self.pointer] = np.zeros(size, np.uint8)

    def fill(self, array: Array, stream: FakeStream) -> None:
        DEVICE.log.append("copy in")
        DEVICE.of(self.pointer, array.nbytes)[:] = np.frombuffer(array.tobytes(), np.uint8)

    def read(self, array: Array, stream: FakeStream) -> None:
        DEVICE.log.append("copy out")
        held = DEVICE.of(self.pointer, array.nbytes)
        ctypes.memmove(array.ctypes.data, held.ctypes.data, array.nbytes)

    def close(self) -> None:
        DEVICE.log.append("free")
        del DEVICE.memory[self.pointer]


class FakeGraph:
    def __init__(self, stream: FakeStream, work: Callable[[], None]) -> None:
        if DEVICE.refuses_graphs:
            raise TargetError("this cannot be recorded.")
        DEVICE.log.append("record")
        DEVICE.recording = True
        work()
        DEVICE.recording = False
        self._work = work

    def launch(self) -> None:
        DEVICE.log.append("launch graph")
        self._work()


class FakePlan:
    """y = 2 · x, for x int64 [B, S]."""

    inputs, outputs = ("x",), ("y",)

    def __init__(self, plan: bytes, *, host_code: bool = False, **_: object) -> None:
        self.host_code = host_code
        self.shape: tuple[int, ...] = ()
        self.pointers: dict[str, int] = {}

    def dtype(self, name: str) -> Any:
        return np.int32 if name == "x" else np.float16

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        if any(a > b for a, b in zip(shapes["x"], MOST, strict=True)):
            raise ModelError("x is outside the shapes that this engine was built for.")
        self.shape = shapes["x"]
        return {"y": self.shape}

    def bind(self, name: str, pointer: int) -> None:
        self.pointers[name] = pointer

    def enqueue(self, stream: int) -> None:
        DEVICE.log.append("enqueue")
        if DEVICE.recording:
            return
        count = int(np.prod(self.shape))
        x = DEVICE.of(self.pointers["x"], 4 * count).view(np.int32)
        DEVICE.of(self.pointers["y"], 2 * count).view(np.float16)[:] = 2 * x


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    DEVICE.__init__()  # type: ignore[misc]
    for name, fake in (("Stream", FakeStream), ("Buffer", FakeBuffer), ("Graph", FakeGraph)):
        monkeypatch.setattr(engines, name, fake)
    monkeypatch.setattr(engines, "Opened", FakePlan)
    return DEVICE


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "model.plan").write_bytes(b"plan")
    return tmp_path / "model.plan"


def feeds(rows: int = 2, tokens: int = 8, first: int = 0) -> dict[str, Array]:
    return {
        "x": np.arange(first, first + rows * tokens).reshape(rows, tokens),
        "unused": np.ones(1),
    }


def right(engine: TensorRtEngine, given: dict[str, Array]) -> None:
    found = engine.run(given)
    assert set(found) == {"y"} and found["y"].dtype == np.float32
    np.testing.assert_array_equal(found["y"], 2 * given["x"])


def test_runs_of_any_shape_in_any_order(plan: Path, device: Device) -> None:
    engine = TensorRtEngine(plan)
    for rows, tokens in ((2, 8), (2, 8), (4, 16), (1, 3), (1, 3), (2, 8)):
        right(engine, feeds(rows, tokens, first=rows))
    assert len(device.memory) == 2  # what was outgrown was freed


def test_a_graph_is_made_of_the_second_run_of_a_shape(plan: Path, device: Device) -> None:
    engine = TensorRtEngine(plan)
    right(engine, feeds())
    assert "record" not in device.log
    right(engine, feeds(first=5))
    right(engine, feeds(first=9))
    assert device.log.count("record") == 1 and device.log.count("launch graph") == 2
    right(engine, feeds(1, 2))  # another shape: the graph is of buffers that may be gone
    assert device.log.count("launch graph") == 2


def test_without_graphs(plan: Path, device: Device) -> None:
    engine = TensorRtEngine(plan, graphs=False)
    for _ in range(3):
        right(engine, feeds())
    engine.bind(feeds())()
    assert "record" not in device.log


def test_a_bound_run_copies_nothing(plan: Path, device: Device) -> None:
    engine = TensorRtEngine(plan)
    run = engine.bind(feeds())
    assert device.log[-2:] == ["record", "enqueue"]
    device.log.clear()
    for _ in range(3):
        run()
        engine.read_clock()
    assert device.log == ["begin", "launch graph", "enqueue", "end", "wait"] * 3
    assert engine.device_times == [0.5] * 3
    engine.bind(feeds(first=3))
    right(engine, feeds(first=7))


def test_a_graph_that_cannot_be_made_is_said_and_done_without(plan: Path, device: Device) -> None:
    device.refuses_graphs = True
    engine = TensorRtEngine(plan)
    with pytest.warns(QDeployWarning, match=r"No CUDA graph.*cannot be recorded"):
        engine.bind(feeds())
    assert engine.graphs is False
    right(engine, feeds())


def test_a_refused_shape_leaves_the_engine_as_good_as_before(plan: Path, device: Device) -> None:
    engine = TensorRtEngine(plan)
    right(engine, feeds())
    with pytest.raises(ModelError, match="outside the shapes"):
        engine.run(feeds(5, 8))
    right(engine, feeds())
    right(engine, feeds())
    assert "launch graph" in device.log
    with pytest.raises(DataError, match="needs the inputs x"):
        engine.run({})


def test_a_missing_plan(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        TensorRtEngine(tmp_path / "model.plan")


def test_version_compatible_plans_may_bring_code(plan: Path) -> None:
    for compatible in (True, False):
        manifest: Any = {"builder": {"version_compatible": compatible}, "cuda_graph": False}
        engine: Any = directory.open_directory(plan.parent, manifest, threads=1)
        assert engine._opened.host_code == compatible
        assert not engine.graphs


@pytest.mark.parametrize(
    ("how", "usual", "expected"),
    [
        (CompileOptions(), (8, 128), {"min": (1, 2), "opt": (8, 128), "max": (32, 512)}),
        (CompileOptions(), (64, 1024), {"min": (1, 2), "opt": (64, 512), "max": (64, 512)}),
        (
            CompileOptions(min_shape="2x8", max_shape="16x64"),
            (4, 32),
            {"min": (2, 8), "opt": (4, 32), "max": (16, 64)},
        ),
    ],
)
def test_shapes_of_a_profile(
    how: CompileOptions, usual: tuple[int, int], expected: dict[str, tuple[int, int]]
) -> None:
    assert how.profile(usual, 512) == expected


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (CompileOptions(max_shape="4x512"), "1, 8 and 4 rows"),
        (CompileOptions(max_shape="32x64"), "2, 128 and 64 tokens"),
        (CompileOptions(min_shape="16x2"), "16, 8 and 32 rows"),
        (CompileOptions(max_shape="32x513"), "at most 512"),
    ],
)
def test_shapes_that_do_not_rise_are_refused(how: CompileOptions, match: str) -> None:
    with pytest.raises(PlanError, match=match):
        how.profile((8, 128), 512)
