"""The engine of `tensorrt`: a plan with buffers of its own on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.deploy import tensorrt_inspector as inspector
from qdeploy.deploy.cuda import Buffer, Graph, Stream, device
from qdeploy.deploy.engine import KernelTime, Witness, inputs_of
from qdeploy.deploy.request import Compilation
from qdeploy.deploy.tensorrt_api import Opened, Settings, build_plan, package
from qdeploy.errors import ModelError, TargetError

Array = npt.NDArray[Any]
ONNX, PLAN, LOG = "model.onnx", "model.plan", "builder.log"
_LARGEST_ROWS = 32  # of a run, where --max-shape is left out


class TensorRtEngine:
    """See `qdeploy.deploy.engine.Engine`.

    Attributes:
        graphs: whether runs of a shape that was seen before are launched as one CUDA graph.
        device_times: of the bound runs, ms between two events of the device.
    """

    def __init__(self, path: Path, *, threads: int = 1, graphs: bool = True) -> None:
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}. Build it again.") from error
        self.path = path
        self.threads = threads
        self.graphs = graphs
        self.device_times: list[float] = []
        self._opened = Opened(plan)
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
        self._load(feeds)
        self._launch()
        for name, array in self._outputs.items():
            self._buffers[name].read(array, self._stream)
        self._stream.wait()
        return {name: array.astype(np.float32) for name, array in self._outputs.items()}

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on inputs that lie on the device already, and whose outputs stay there.

        What is timed is then the run alone, with no copy in it; `device_times` gets its time
        between two events of the device.
        """
        self._load(feeds)
        self._stream.wait()

        def run() -> None:
            self._launch()
            self._stream.wait()
            self.device_times.append(self._stream.elapsed_ms())

        return run

    def _load(self, feeds: Mapping[str, Array]) -> None:
        """Copy inputs to the device; at new shapes, settle buffers and graph."""
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
        if others:
            self._settle(shapes)

    def _launch(self) -> None:
        self._stream.begin()
        if self._graph is not None:
            self._graph.launch()
        else:
            self._opened.enqueue(self._stream.pointer)
        self._stream.end()

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each layer over `iterations` runs after one warm-up."""
        return self._profiled(feeds, iterations)[1]

    def witness(
        self, gemms: Mapping[str, Sequence[str]], feeds: Mapping[str, Array], iterations: int = 3
    ) -> Witness:
        """Find each GEMM by the ONNX nodes that the engine inspector names for its layers."""
        layers, kernels = self._profiled(feeds, iterations)
        return Witness(inspector.of_gemms(layers, kernels, gemms), kernels)

    def _profiled(
        self, feeds: Mapping[str, Array], iterations: int
    ) -> tuple[list[inspector.Layer], list[KernelTime]]:
        engine = TensorRtEngine(self.path, graphs=False)  # a graph's layers report no times
        times = engine._opened.watch()
        for _ in range(iterations + 1):
            engine.run(feeds)
        layers = inspector.layers(engine._opened.information())
        behind = {name: ms[1:] or ms for name, ms in times.items()}
        return layers, inspector.kernels(layers, behind)

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Buffers and outputs for inputs of these shapes."""
        self._forget_graph()
        outputs = self._opened.set_shapes(shapes)
        self._shapes = {}
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

    def _settle(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """One run, which allocates what first runs allocate, and the graph of the next."""
        self._opened.enqueue(self._stream.pointer)
        self._stream.wait()
        if self.graphs:
            self._graph = Graph(self._stream, lambda: self._opened.enqueue(self._stream.pointer))
        self._shapes = shapes

    def _forget_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None


def require() -> None:
    """Refuse what cannot be compiled here.

    Raises:
        TargetError: TensorRT, CUDA or a GPU is missing, with the way out.
    """
    try:
        package()
        device()
    except TargetError as error:
        raise TargetError(
            f"{error} `build --target tensorrt --dry-run` writes the ONNX file here, to be built "
            "where a GPU is; `eval --simulate` measures its accuracy."
        ) from None


def compile_directory(
    directory: Path, manifest: Mapping[str, Any], shape: tuple[int, int], how: Compilation
) -> dict[str, Any]:
    """Compile model.onnx to model.plan, which takes its place.

    Returns:
        {"builder": {"tensorrt", "device", "shapes", "cuda_graph", …}} for the manifest.

    Raises:
        ModelError, TargetError: see `build_plan`.
    """
    longest = int(manifest["max_length"])
    least = how.least or (1, 2)
    largest = how.largest or (max(_LARGEST_ROWS, shape[0]), longest)
    usual = (shape[0], min(shape[1], largest[1]))
    cache = how.timing_cache
    settings = Settings(
        shapes=dict.fromkeys(manifest["inputs"], (least, usual, largest)),
        workspace_mb=how.workspace_mb,
        timing_cache=cache.read_bytes() if cache is not None and cache.is_file() else b"",
        version_compatible=how.version_compatible,
        refit=how.refit,
    )
    built = build_plan(directory / ONNX, settings)
    (directory / PLAN).write_bytes(built.plan)
    (directory / LOG).write_text("\n".join(built.log) + "\n", "utf-8")
    if cache is not None:
        cache.write_bytes(built.timing_cache)
    for left in directory.glob(f"{ONNX}*"):
        left.unlink()
    return {
        "cuda_graph": how.cuda_graph,
        "builder": {
            "tensorrt": package().__version__,
            "device": device(),
            "shapes": {"min": list(least), "opt": list(usual), "max": list(largest)},
            "workspace_mb": how.workspace_mb,
            "version_compatible": how.version_compatible,
            "refit": how.refit,
        },
    }


def open_directory(directory: Path, manifest: dict[str, Any], threads: int) -> TensorRtEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.Target`."""
    return TensorRtEngine(
        directory / PLAN, threads=threads, graphs=bool(manifest.get("cuda_graph", True))
    )
