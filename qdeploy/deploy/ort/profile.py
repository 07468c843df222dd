"""What an ONNX Runtime session ran: the optimized graph, and the time of each of its kernels."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

import onnx_ir as ir

from qdeploy.deploy.engine import KernelTime, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.kernels import fallback_reason, load_optimized, products
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.files.scratch import scratch
from qdeploy.graph.session import run_session
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnxruntime as ort


class EventArguments(TypedDict, total=False):
    """Of an event that is a run of a kernel; shapes are told by type, {"float": [8, 128, 384]}."""

    op_name: str
    provider: str
    input_type_shape: list[dict[str, list[int]]]
    output_type_shape: list[dict[str, list[int]]]


class Event(TypedDict, total=False):
    """One entry of a session's profile; `dur` is in microseconds."""

    cat: str
    name: str
    dur: int
    args: EventArguments


def profiled(
    path: Path, threads: int, feeds: Mapping[str, Array], iterations: int
) -> tuple[list[KernelTime], ir.Model]:
    """Kernel times of a session, and the graph that it ran."""
    with scratch("profile") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options, optimized=folder / "optimized.onnx")
        wanted = inputs_of(feeds, [value.name for value in session.get_inputs()])
        events = recorded(session, wanted, iterations + 1, path)
        graph = load_optimized(folder / "optimized.onnx")
    return kernel_times(events, iterations + 1), graph


def recorded(
    session: ort.InferenceSession, feeds: Mapping[str, Array], runs: int, path: Path
) -> list[Event]:
    """Events of so many runs of a file's session that profiles; it profiles no more after them."""
    for _ in range(runs):
        run_session(session, feeds, path)
    found: list[Event] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return found


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


def kernel_events(
    events: Sequence[Event],
) -> Iterator[tuple[str, Event]]:
    """The events that are runs of a kernel, with the name of its node."""
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            yield name.removesuffix("_kernel_time"), event


def providers_of(events: Sequence[Event]) -> dict[str, str]:
    """The provider that ran each node, by the node's name, from a profile's events."""
    return {name: str(event["args"].get("provider", "")) for name, event in kernel_events(events)}


def kernel_times(events: Sequence[Event], runs: int) -> list[KernelTime]:
    """Mean time of each kernel, ms, from the events of a profile of so many runs.

    The first run warms up.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, event in kernel_events(events):
        times[name, str(event["args"]["op_name"])].append(event["dur"] / 1000)
    result = []
    for (name, kernel), durations in times.items():
        calls = len(durations) // runs
        kept = durations[calls:] or durations  # the first run warms up
        result.append(KernelTime(name, kernel, sum(kept) / max(runs - 1, 1), max(calls, 1)))
    return result
