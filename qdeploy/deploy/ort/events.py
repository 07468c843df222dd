"""What an ONNX Runtime session ran, from its own profile: nothing here reads a graph."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from qdeploy.deploy.engine import KernelTime, inputs_of
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.files.scratch import scratch
from qdeploy.graph.session import run_session
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnxruntime as ort

# Kernels of the CPU provider that multiply 8-bit integers.
INT8_KERNELS = frozenset(
    {
        "MatMulIntegerToFloat",
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "QLinearMatMul",
        "QGemm",
        "QAttention",
        "QLinearConv",
        "ConvInteger",
    }
)


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


def timed(
    path: Path,
    threads: int,
    feeds: Mapping[str, Array],
    iterations: int,
    *,
    optimized: Path | None = None,
) -> list[KernelTime]:
    """Kernel times of a session, mean of `iterations` runs after one that warms up.

    Args:
        path: of an ONNX file.
        optimized: where to write the graph that ran.
    """
    with scratch("profile") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options, optimized=optimized)
        wanted = inputs_of(feeds, [value.name for value in session.get_inputs()])
        return kernel_times(recorded(session, wanted, iterations + 1, path), iterations + 1)


def recorded(
    session: ort.InferenceSession, feeds: Mapping[str, Array], runs: int, path: Path
) -> list[Event]:
    """Events of so many runs of a file's session that profiles; it profiles no more after them."""
    for _ in range(runs):
        run_session(session, feeds, path)
    found: list[Event] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return found


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
