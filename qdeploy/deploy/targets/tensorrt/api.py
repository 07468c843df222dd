"""TensorRT 10 and 11: build a plan from an ONNX file, and open it. Imported here alone.

One code path serves both: strongly typed networks without precision flags, which 11 knows alone and
10 takes too. A test holds every name that is used here against the bindings of both versions.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar

from qdeploy.deploy.health import tensorrt_package
from qdeploy.errors import ModelError, QDeployWarning, TargetError, genuine

if TYPE_CHECKING:
    import numpy as np
    import tensorrt as trt

Shape = tuple[int, ...]
_KEPT_LINES = 10_000
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Settings:
    """How a plan is built.

    Attributes:
        shapes: by input, its least, usual and largest shape.
        workspace_mb: scratch memory that kernels may use, 10⁶ bytes; None for all there is.
        timing_cache: of an earlier build, so that kernels are not timed again; may be empty.
        version_compatible: the plan runs under later versions of TensorRT too.
        refit: its weights can be replaced.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    workspace_mb: int | None = None
    timing_cache: bytes = b""
    version_compatible: bool = False
    refit: bool = False


@dataclass
class Built:
    """A plan, the timing cache after it, and what the builder said."""

    plan: bytes
    timing_cache: bytes
    log: list[str] = field(default_factory=list)


def package() -> ModuleType:
    """The package tensorrt.

    Raises:
        TargetError: it is not installed, or its libraries are missing.
    """
    try:
        import tensorrt
    except Exception as error:  # a missing library is an OSError, a broken stub anything
        raise TargetError(f"tensorrt cannot be imported: {error}. {tensorrt_package()}") from None
    found: ModuleType = genuine(tensorrt, "Builder", "NVIDIA's", tensorrt_package())
    return found


def build_plan(onnx_file: Path, settings: Settings) -> Built:
    """Compile an ONNX file.

    Raises:
        TargetError: no GPU or driver, or the builder found no engine.
        ModelError: the parser refuses the file, with every reason.
    """
    api = package()
    logger = _logger()
    logger.lines.clear()
    builder: trt.Builder = _made(api.Builder, logger)
    flags = 1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = api.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = "; ".join(_reason(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"TensorRT does not take {onnx_file}: {reasons}")
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    config.clear_flag(api.BuilderFlag.TF32)  # what is FP32 in the graph is meant so
    if settings.workspace_mb is not None:
        limit = settings.workspace_mb * 1_000_000
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, limit)
    if settings.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if settings.refit:
        config.set_flag(api.BuilderFlag.REFIT)
    timings: trt.ITimingCache = _timing_cache(config, settings.timing_cache)
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    for name, (least, usual, largest) in settings.shapes.items():
        profile.set_shape(name, least, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        raise TargetError(f"TensorRT refuses the shapes {dict(settings.shapes)}: {_last()}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TargetError(f"TensorRT built no engine: {_last()}")
    return Built(bytes(plan), bytes(timings.serialize()), list(logger.lines))


def _timing_cache(config: trt.IBuilderConfig, held: bytes) -> trt.ITimingCache:
    """A timing cache with what an earlier build held; an empty one where that is of no use here."""
    timings: trt.ITimingCache = config.create_timing_cache(held)
    if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
        warnings.warn(
            "The timing cache is of another GPU or version, or damaged: a new one takes its place.",
            QDeployWarning,
            stacklevel=2,
        )
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    return timings


class Opened:
    """A plan, ready to run at one shape at a time."""

    def __init__(self, plan: bytes, *, host_code: bool = False) -> None:
        """Load it.

        Args:
            host_code: let the plan bring code that runs on the host, as version-compatible ones do.

        Raises:
            TargetError: no GPU or driver, or not enough memory.
            ModelError: it is damaged, or of another version or GPU.
        """
        api = self._api = package()
        runtime: trt.Runtime = _made(api.Runtime, _logger())
        if host_code:
            runtime.engine_host_code_allowed = True
        engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelError(
                f"TensorRT does not load this plan: {_last()} Plans belong to one version and one "
                "kind of GPU; build it again here."
            )
        context: trt.IExecutionContext = engine.create_execution_context()
        if context is None:
            raise TargetError(f"TensorRT cannot run this plan here: {_last()}")
        self._runtime, self._engine, self._context = runtime, engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        reads = api.TensorIOMode.INPUT
        self.inputs = tuple(n for n in names if engine.get_tensor_mode(n) == reads)
        self.outputs = tuple(n for n in names if engine.get_tensor_mode(n) != reads)

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
            raise ModelError(f"TensorRT does not take the memory of {name}: {_last()}")

    def enqueue(self, stream: int) -> None:
        """Put a run into a stream.

        Raises:
            ModelError: it was refused.
        """
        context: trt.IExecutionContext = self._context
        if not context.execute_async_v3(stream):
            raise ModelError(f"TensorRT did not run: {_last()}")

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


class _Lines(Protocol):
    """Our logger, whose class extends one of TensorRT's and so is made at run time."""

    lines: deque[str]


@cache
def _logger() -> _Lines:
    """The logger of the process: TensorRT keeps the first that it is given, whatever comes after.

    Its `lines` are warnings, errors and what the builder says of its progress.
    """
    api = package()

    class Logger(api.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            if severity <= api.ILogger.Severity.INFO:
                self.lines.append(f"{severity.name}: {message}")

    return Logger()


def _made(kind: Callable[[_Lines], _Made], logger: _Lines) -> _Made:
    """A builder or runtime.

    Raises:
        TargetError: there is no GPU or driver.
    """
    try:
        made = kind(logger)
    except TypeError as error:  # what the bindings raise for a null pointer
        raise TargetError(
            f"TensorRT does not start: {error}. It needs an NVIDIA GPU and its driver; `qdeploy "
            "doctor` says what is here."
        ) from None
    return made


def _reason(error: trt.ParserError) -> str:
    return f"{error.node_name() or 'graph'}: {error.desc()}"


def _last() -> str:
    """The last error that was logged, or the last line."""
    lines: list[str] = list(_logger().lines)
    errors = [line for line in lines if "ERROR" in line.split(":")[0]]
    return (errors or lines or ["no reason given"])[-1]
