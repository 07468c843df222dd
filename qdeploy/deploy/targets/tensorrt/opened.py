"""A plan on the device, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qdeploy.deploy.targets.tensorrt.ahead_of_time import Finished
from qdeploy.deploy.targets.tensorrt.api import TENSORRT, Library
from qdeploy.errors import ModelError, TargetError

if TYPE_CHECKING:
    import numpy as np
    import tensorrt as trt

Shape = tuple[int, ...]


class Opened:
    """A plan, ready to run at one shape at a time."""

    def __init__(
        self,
        plan: bytes,
        *,
        host_code: bool = False,
        library: Library = TENSORRT,
        kernels: bytes = b"",
    ) -> None:
        """Load it.

        Args:
            host_code: let the plan bring code that runs on the host, as version-compatible ones do.
            library: that built it.
            kernels: of an ahead-of-time plan, those that were compiled here before (`kernels()`);
                what is of another device or version is compiled anew.

        Raises:
            TargetError: no GPU or driver, or not enough memory.
            ModelError: it is damaged, or of another version or GPU.
        """
        api = self._api = library.package()
        self._library = library
        runtime: trt.Runtime = library.made(api.Runtime)
        if host_code:
            runtime.engine_host_code_allowed = True
        engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelError(
                f"{library.title} does not load this plan: {library.last()} Plans belong to one "
                "version and one kind of GPU; build it again here."
            )
        if library.ahead_of_time:
            self._finished: Finished | None = Finished(library, engine, kernels)
            context: trt.IExecutionContext = self._finished.context
        else:
            self._finished, context = None, engine.create_execution_context()
        if context is None:
            raise TargetError(f"{library.title} cannot run this plan here: {self._library.last()}")
        self._runtime, self._engine, self._context = runtime, engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        reads = api.TensorIOMode.INPUT
        self.inputs = tuple(n for n in names if engine.get_tensor_mode(n) == reads)
        self.outputs = tuple(n for n in names if engine.get_tensor_mode(n) != reads)

    def kernels(self) -> bytes:
        """The kernels that were compiled on this device so far; empty where none are."""
        return b"" if self._finished is None else self._finished.kernels()

    def dtype(self, name: str) -> type[np.generic]:
        """Type of an input or output, as numpy names it."""
        api, engine = self._api, self._engine
        found: type[np.generic] = api.nptype(engine.get_tensor_dtype(name))
        return found

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Fix the inputs' shapes; the outputs' follow.

        Raises:
            ModelError: outside what the plan was built for.
        """
        context: trt.IExecutionContext = self._context
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                engine: trt.ICudaEngine = self._engine
                least, _, largest = map(tuple, engine.get_tensor_profile_shape(name, 0))
                raise ModelError(
                    f"{name} {shape} is outside the shapes that this engine was built for, {least} "
                    f"to {largest}. Build it with another --min-shape or --max-shape."
                )
        return {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}

    def bind(self, name: str, pointer: int) -> None:
        """Where an input or output lies on the device.

        Raises:
            ModelError: it was refused.
        """
        context: trt.IExecutionContext = self._context
        if not context.set_tensor_address(name, pointer):
            said = self._library.last()
            raise ModelError(f"{self._library.title} does not take the memory of {name}: {said}")

    def enqueue(self, stream: int) -> None:
        """Put a run into a stream.

        Raises:
            ModelError: it was refused.
        """
        context: trt.IExecutionContext = self._context
        if not context.execute_async_v3(stream):
            raise ModelError(f"{self._library.title} did not run: {self._library.last()}")

    def information(self) -> str:
        """Layers as the engine inspector tells them, JSON."""
        api = self._api
        engine: trt.ICudaEngine = self._engine
        inspector: trt.EngineInspector = engine.create_engine_inspector()
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(api.LayerInformationFormat.JSON))

    def watch(self) -> dict[str, list[float]]:
        """From now on the time of every layer of every run, ms, by its name."""
        api = self._api
        context: trt.IExecutionContext = self._context
        times: dict[str, list[float]] = {}

        class Profiler(api.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                api.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        self._profiler = Profiler()  # the context does not keep it
        context.profiler = self._profiler
        return times
