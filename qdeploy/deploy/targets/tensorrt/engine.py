"""The engine of `tensorrt`: a plan with buffers of its own on the device."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qdeploy.deploy.cuda import Buffer, Graph, Stream
from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.deploy.targets.tensorrt.api import TENSORRT, Library
from qdeploy.deploy.targets.tensorrt.opened import Opened
from qdeploy.errors import ModelError, QDeployWarning, TargetError
from qdeploy.types import Array


class TensorRtEngine(Engine):
    """See `qdeploy.deploy.engine.Engine`.

    Runs share one context with its buffers: those of several threads wait for each other.

    Attributes:
        graphs: whether runs of a shape that came before are launched as one CUDA graph.
        device_times: of the bound runs whose clock was read, ms between two events of the device.
    """

    on_device = True

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        graphs: bool = True,
        host_code: bool = False,
        library: Library = TENSORRT,
        kernels: bytes = b"",
    ) -> None:
        super().__init__()
        self._turn = threading.Lock()
        self.path = path
        self.threads = threads
        self.graphs = graphs
        self._host_code = host_code
        self._library, self._kernels = library, kernels
        self._opened = Opened(
            read_plan(path), host_code=host_code, library=library, kernels=kernels
        )
        self._stream = Stream()
        self.input_names = self._opened.inputs
        self.output_names = self._opened.outputs
        self._buffers: dict[str, Buffer] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._outputs: dict[str, Array] = {}
        self._held: dict[str, Array] = {}  # copies run on their own, and need their source
        self._graph: Graph | None = None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
            ModelError: a shape outside what the engine was built for.
        """
        self.check_process()
        with self._turn:
            if not self._load(feeds):
                self._record()
            self._launch()
            for name, array in self._outputs.items():
                self._buffers[name].read(array, self._stream)
            self._stream.wait()
            return {name: array.astype(np.float32) for name, array in self._outputs.items()}

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on inputs that lie on the device already, and whose outputs stay there.

        What is timed is then the run alone, with no copy in it.
        """
        with self._turn:
            self._load(feeds)
            self._opened.enqueue(self._stream.pointer)  # the first of a shape may allocate
            self._stream.wait()
            self._record()

        def run() -> None:
            with self._turn:
                self._launch()
                self._stream.wait()

        return run

    def read_clock(self) -> None:
        """Add the last bound run's time on the device to `device_times`."""
        self.device_times.append(self._stream.elapsed_ms())

    def _load(self, feeds: Mapping[str, Array]) -> bool:
        """Copy inputs to the device, into new buffers where shapes are new, which is returned."""
        wanted = inputs_of(feeds, self.input_names)
        self._held = {
            name: np.ascontiguousarray(value, self._opened.dtype(name))
            for name, value in wanted.items()
        }
        shapes = {name: array.shape for name, array in self._held.items()}
        others = shapes != self._shapes
        if others:
            self._allocate(shapes)
        for name, array in self._held.items():
            self._buffers[name].fill(array, self._stream)
        return others

    def _launch(self) -> None:
        self._stream.begin()
        if self._graph is not None:
            self._graph.launch()
        else:
            self._opened.enqueue(self._stream.pointer)
        self._stream.end()

    def _record(self) -> None:
        """Make a CUDA graph of a run at the shapes of the one before, where that is wanted."""
        if not self.graphs or self._graph is not None:
            return
        self._stream.wait()
        try:
            self._graph = Graph(self._stream, lambda: self._opened.enqueue(self._stream.pointer))
        except (ModelError, TargetError) as error:
            self.graphs = False  # said in the report
            warnings.warn(f"No CUDA graph can be made: {error}", QDeployWarning, stacklevel=3)

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each layer over `iterations` runs after one warm-up."""
        return self._profiled(feeds, iterations)[1]

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Find each GEMM by the ONNX nodes that the engine inspector names for its layers."""
        layers, kernels = self._profiled(feeds, iterations)
        return KernelTrace(inspector.of_gemms(layers, kernels, gemms), kernels)

    def kernels(self) -> bytes:
        """Of an ahead-of-time plan, the kernels that were compiled on this device so far."""
        return self._opened.kernels()

    def _profiled(
        self, feeds: Mapping[str, Array], iterations: int
    ) -> tuple[list[inspector.Layer], list[KernelTime]]:
        # a graph's layers report no times
        engine = TensorRtEngine(
            self.path,
            graphs=False,
            host_code=self._host_code,
            library=self._library,
            kernels=self._kernels,
        )
        times = engine._opened.watch()
        for _ in range(iterations + 1):
            engine.run(feeds)
        layers = inspector.layers(engine._opened.information())
        behind = {name: ms[1:] or ms for name, ms in times.items()}
        return layers, inspector.kernels(layers, behind)

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Buffers and outputs for inputs of these shapes."""
        self._graph, self._shapes = None, {}
        outputs = self._opened.set_shapes(shapes)
        for name, shape in (shapes | outputs).items():
            size = int(np.prod(shape)) * np.dtype(self._opened.dtype(name)).itemsize
            if name not in self._buffers or self._buffers[name].size < size:
                if name in self._buffers:
                    self._buffers.pop(name).close()
                self._buffers[name] = Buffer(size)
            self._opened.bind(name, self._buffers[name].pointer)
        self._outputs = {
            name: np.empty(shape, self._opened.dtype(name)) for name, shape in outputs.items()
        }
        self._shapes = shapes


def read_plan(path: Path) -> bytes:
    """The plan of an engine directory.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. Build it again.") from error
