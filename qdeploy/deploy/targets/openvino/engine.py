"""The engine of `openvino`: a model compiled by OpenVINO's CPU plugin."""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.errors import TargetError, genuine
from qdeploy.graph.session import refused, running
from qdeploy.machine.remedies import install_command
from qdeploy.machine.telemetry import without_openvino_reports
from qdeploy.schemas.manifest import EngineFields
from qdeploy.types import Array

if TYPE_CHECKING:
    from qdeploy.deploy.targets.openvino.protocols import CompiledModel, InferRequest, Node

REST_PRECISIONS = ("f32", "bf16")
_PRODUCTS = ("FullyConnected", "MatMul", "Convolution")
_INT8 = ("i8", "u8")
_loaded_in: set[int] = set()  # processes, of which the others are those that forked this one off
_FORM = ("Transpose", "Reorder", "Reshape", "Convert", "Eltwise", "Subgraph")


def runtime() -> ModuleType:
    """The package openvino.

    Raises:
        TargetError: it is not installed, or a process that this one was forked from loaded it:
            locks that its threads held would be waited for, for ever.
    """
    if _loaded_in and os.getpid() not in _loaded_in:
        raise TargetError(
            "OpenVINO was loaded before this process was forked off, and does not survive that. "
            "Start workers with 'spawn' or 'forkserver', or load engines in the workers alone."
        )
    install = f"Type: {install_command('openvino')}"
    try:
        with without_openvino_reports():
            import openvino
    except ImportError as error:
        raise TargetError(f"openvino cannot be imported: {error}. {install}") from None
    _loaded_in.add(os.getpid())
    found: ModuleType = genuine(openvino, "Core", "OpenVINO's", install)
    return found


def require() -> None:
    """Refuse a machine without the package.

    Raises:
        TargetError: see `runtime`.
    """
    runtime()


@cache
def core() -> Any:
    """The openvino.Core of this process, which is never freed.

    OpenVINO 2026.4 gives the thread a stack for its signals with each Core, and takes it back with
    that Core. Of two, the first of which is freed first, the second puts the stack back that is
    gone: the next signal, Ctrl-C say, ends the process by SIGSEGV.

    Raises:
        TargetError: see `runtime`.
    """
    return runtime().Core()


def compile_file(
    path: Path, *, threads: int, rest: str = "f32", profiling: bool = False
) -> CompiledModel:
    """Compile an ONNX file for the CPU, for latency: one stream.

    Args:
        path: .onnx file.
        threads: threads of one run.
        rest: precision of what is not INT8, "f32" or "bf16".
        profiling: count time per kernel; costs a little itself.

    Raises:
        RunError: the file is missing or damaged.
        TargetError: openvino is not installed.
    """
    runtime()  # refuses a process that was forked off
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": rest,
        "PERF_COUNT": profiling,
    }
    try:
        compiled: CompiledModel = core().compile_model(str(path), "CPU", settings)
    except Exception as error:  # OpenVINO raises RuntimeError for each cause
        raise refused(error, path, "does not compile in OpenVINO", "Build it again.") from error
    return compiled


class OpenVinoEngine(Engine):
    """See `qdeploy.deploy.engine.Engine`.

    Runs of several threads each have an infer request: one request is for one run at a time.

    Attributes:
        rest: precision of what is not INT8, "f32" or "bf16".
    """

    def __init__(self, path: Path, *, threads: int = 2, rest: str = "f32") -> None:
        super().__init__()
        self.path = path
        self.threads = threads
        self.rest = rest
        self._compiled = compile_file(path, threads=threads, rest=rest)
        self._idle: queue.LifoQueue[InferRequest] = queue.LifoQueue()  # the last one used is warm
        self._outputs = list(self._compiled.outputs)
        self.input_names = tuple(port.get_any_name() for port in self._compiled.inputs)
        self.output_names = tuple(port.get_any_name() for port in self._compiled.outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
            RunError: the graph does not run on these inputs.
        """
        self.check_process()
        wanted = inputs_of(feeds, self.input_names)
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        with running(self.path, "OpenVINO"):
            results = request.infer(wanted)
            found = [np.array(results[port], np.float32) for port in self._outputs]
        self._idle.put(request)  # its memory was copied; one whose run failed is not used again
        return dict(zip(self.output_names, found, strict=True))

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Find each GEMM by its weights in the runtime model."""
        operations, kernels = self._profiled(feeds, iterations)
        constants = {op.get_friendly_name(): op for op in operations}
        found = {}
        for gemm, trace_names in gemms.items():
            names = [_traced(constants, TraceName(*trace_name)) for trace_name in trace_names]
            found[gemm] = [kernels[n] for part in names for n in part] if all(names) else []
        return KernelTrace(found, list(kernels.values()))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each kernel over `iterations` runs after one warm-up."""
        return list(self._profiled(feeds, iterations)[1].values())

    def _profiled(
        self, feeds: Mapping[str, Array], iterations: int
    ) -> tuple[Sequence[Node], dict[str, KernelTime]]:
        """Operations of the runtime model, and the kernels of a profiled run by their names."""
        compiled = compile_file(self.path, threads=self.threads, rest=self.rest, profiling=True)
        request = compiled.create_infer_request()
        wanted = inputs_of(feeds, self.input_names)
        times: dict[str, list[float]] = {}
        implementations: dict[str, str] = {}
        for _ in range(iterations + 1):
            with running(self.path, "OpenVINO"):
                request.infer(wanted)
            for entry in request.get_profiling_info():
                times.setdefault(entry.node_name, []).append(entry.real_time.total_seconds() * 1e3)
                implementations[entry.node_name] = entry.exec_type
        operations = compiled.get_runtime_model().get_ordered_ops()
        kernels = {}
        for operation in operations:
            name = operation.get_friendly_name()
            if name in times:
                ms = times[name][1:] or times[name]
                kernels[name] = _kernel(operation, implementations[name], ms)
        return operations, kernels


def _traced(operations: Mapping[str, Node], trace_name: TraceName) -> list[str]:
    """Names of the products of a weight; of several that share it those made of that node."""
    found = _products(operations[trace_name.weight]) if trace_name.weight in operations else []
    own = [name for name in found if trace_name.node in _origins(operations[name])]
    return own or found


def _origins(operation: Node) -> set[str]:
    """The nodes of the file that an operation was made of, by the names that it kept."""
    names = _about(operation).get("originalLayersNames", "").split(",")
    return {*names, *(name.rsplit("/", 1)[0] for name in names)}


def _products(operation: Node) -> list[str]:
    """Names of the products that read a constant, behind what only changes its form."""
    found = []
    for port in operation.outputs():
        for target in port.get_target_inputs():
            reader = target.get_node()
            kind = _about(reader).get("layerType")
            if kind in _PRODUCTS:
                found.append(reader.get_friendly_name())
            elif kind in _FORM:
                found += _products(reader)
    return found


def _about(operation: Node) -> dict[str, str]:
    return {key: value.astype(str) for key, value in operation.get_rt_info().items()}


def _kernel(operation: Node, implementation: str, times: Sequence[float]) -> KernelTime:
    about = _about(operation)
    kind, precision = about.get("layerType", "?"), about.get("runtimePrecision", "?")
    if kind in _PRODUCTS and precision in _INT8 and operation.get_input_size():
        # of weights that are only stored in int8 it says i8 too, and multiplies floats
        precision = operation.get_input_element_type(0).get_type_name()
    int8 = kind in _PRODUCTS and precision in _INT8
    reason = "" if int8 else f"OpenVINO computes it in {precision} ({implementation})"
    return KernelTime(
        operation.get_friendly_name(),
        f"{kind} {implementation}",
        sum(times) / len(times),
        1,
        int8=int8,
        fallback_reason=reason,
    )


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> OpenVinoEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    rest = str(manifest.get("rest_precision", "f32"))
    return OpenVinoEngine(directory / "model.onnx", threads=threads, rest=rest)
