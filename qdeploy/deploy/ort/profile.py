"""What an ONNX Runtime session ran: the optimized graph, and the time of each of its kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.events import timed
from qdeploy.deploy.ort.kernels import fallback_reason, load_optimized, products
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.files.scratch import scratch
from qdeploy.types import Array


def profiled(
    path: Path, threads: int, feeds: Mapping[str, Array], iterations: int
) -> tuple[list[KernelTime], ir.Model]:
    """Kernel times of a session, and the graph that it ran."""
    with scratch("optimized") as folder:
        optimized = folder / "optimized.onnx"
        kernels = timed(path, threads, feeds, iterations, optimized=optimized)
        return kernels, load_optimized(optimized)


def optimized_graph(path: Path) -> ir.Model:
    """The graph that a session of this file would run.

    Raises:
        ModelError: the file does not load.
    """
    with scratch("optimized") as folder:
        optimized = folder / "optimized.onnx"
        open_session(path, session_options(1), optimized=optimized)
        return load_optimized(optimized)


def find_kernels(
    graph: ir.Model, gemms: Mapping[str, Sequence[TraceName]], kernels: Sequence[KernelTime] = ()
) -> dict[str, list[KernelTime]]:
    """The kernels of each GEMM, by the constants that it computes with.

    Args:
        graph: optimized graph.
        gemms: GEMM name → its trace names; all of a GEMM's have to be there.
        kernels: of a profiled run of that graph; without them the times are 0.
    """
    timed = {kernel.name: kernel for kernel in kernels}
    found = {}
    for gemm, trace_names in gemms.items():
        nodes = [_traced(graph, TraceName(*trace_name)) for trace_name in trace_names]
        found[gemm] = (
            [kernel_of(node, timed) for part in nodes for node in part] if all(nodes) else []
        )
    return found


def _traced(graph: ir.Model, trace_name: TraceName) -> list[ir.Node]:
    """The nodes that compute with a weight; of several that share it the one of that name."""
    found = products(graph, [trace_name.weight])
    return [node for node in found if str(node.name) == trace_name.node] or found


def kernel_of(node: ir.Node, timed: Mapping[str, KernelTime] = MappingProxyType({})) -> KernelTime:
    """A node of an optimized graph as a kernel: whether it multiplies in INT8, and if not, why.

    Args:
        timed: kernels of a profiled run by their names; without them the time is 0.
    """
    kernel = timed.get(str(node.name), KernelTime(str(node.name), node.op_type, 0.0, 1))
    reason = fallback_reason(node)
    return replace(kernel, int8=not reason, fallback_reason=reason)
