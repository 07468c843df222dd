"""The engine of `ort-cpu`: an ONNX Runtime session on the CPU provider."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.deploy.engine import KernelTime, Witness, inputs_of
from qdeploy.deploy.ort_proof import fault, load_optimized, products
from qdeploy.errors import ModelError

Array = npt.NDArray[Any]

# ONNX Runtime fuses residual sums with LayerNormalization by itself, and on the CPU provider the
# fused kernel is several times slower than the two; FP32 baselines gain from this too.
SLOW_FUSIONS = ("SkipLayerNormFusion",)
_EXTERNAL = "session.optimized_model_external_initializers_file_name"


def session_options(threads: int) -> ort.SessionOptions:
    """Options of every timed session: a stated number of threads, no slow fusion."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_session(
    path: Path, options: ort.SessionOptions, *, optimized: Path | None = None
) -> ort.InferenceSession:
    """A CPU session of an ONNX file.

    Args:
        optimized: where to write the graph that runs; weights beyond what one protobuf holds go
            beside it.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        if path.with_name(f"{path.name}.data").exists():
            options.add_session_config_entry(_EXTERNAL, f"{optimized.name}.data")
    try:
        return ort.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
    except Exception as error:  # onnxruntime raises classes of its own for each cause
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path} does not load in ONNX Runtime: {first}. Build it again."
        ) from error


class OrtCpuEngine:
    """See `qdeploy.deploy.engine.Engine`."""

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        self.path = path
        self.threads = threads
        self._session = open_session(path, session_options(threads))
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
        """
        outputs = self._session.run(None, inputs_of(feeds, self.input_names))
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each kernel over `iterations` runs after one warm-up."""
        return profiled(self.path, self.threads, feeds, iterations)[0]

    def witness(
        self, gemms: Mapping[str, Sequence[str]], feeds: Mapping[str, Array], iterations: int = 3
    ) -> Witness:
        """Find each GEMM by its weights in the graph that ran."""
        kernels, graph = profiled(self.path, self.threads, feeds, iterations)
        return Witness(find_kernels(graph, gemms, kernels), kernels)


def open_directory(directory: Path, manifest: dict[str, Any], threads: int) -> OrtCpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.Target`."""
    return OrtCpuEngine(directory / "model.onnx", threads=threads)


def profiled(
    path: Path, threads: int, feeds: Mapping[str, Array], iterations: int
) -> tuple[list[KernelTime], ir.Model]:
    """Kernel times of a session, and the graph that it ran."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(path, options, optimized=Path(folder) / "optimized.onnx")
        wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
        for _ in range(iterations + 1):
            session.run(None, wanted)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        graph = load_optimized(Path(folder) / "optimized.onnx")
    return _kernel_times(events, iterations + 1), graph


def optimized_graph(path: Path) -> ir.Model:
    """The graph that a session of this file would run.

    Raises:
        ModelError: the file does not load.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(path, session_options(1), optimized=optimized)
        return load_optimized(optimized)


def find_kernels(
    graph: ir.Model, gemms: Mapping[str, Sequence[str]], kernels: Sequence[KernelTime] = ()
) -> dict[str, list[KernelTime]]:
    """The kernels of each GEMM, by the initializers that it computes with.

    Args:
        graph: optimized graph.
        gemms: GEMM name → initializer names; all of a GEMM's have to be there.
        kernels: of a profiled run of that graph; without them the times are 0.
    """
    timed = {kernel.name: kernel for kernel in kernels}
    found = {}
    for gemm, weights in gemms.items():
        nodes = [products(graph, [weight]) for weight in weights]
        found[gemm] = (
            [_kernel(node, timed) for part in nodes for node in part] if all(nodes) else []
        )
    return found


def _kernel(node: ir.Node, timed: Mapping[str, KernelTime]) -> KernelTime:
    kernel = timed.get(str(node.name), KernelTime(str(node.name), node.op_type, 0.0, 1))
    reason = fault(node)
    return replace(kernel, int8=not reason, fault=reason)


def _kernel_times(events: list[dict[str, Any]], runs: int) -> list[KernelTime]:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kernel = str(event["args"]["op_name"])
            times[name.removesuffix("_kernel_time"), kernel].append(event["dur"] / 1000)
    result = []
    for (name, kernel), durations in times.items():
        calls = len(durations) // runs
        kept = durations[calls:] or durations  # the first run warms up
        result.append(KernelTime(name, kernel, sum(kept) / max(runs - 1, 1), max(calls, 1)))
    return result
