"""The engine of `ort-cpu`: an ONNX Runtime session on the CPU provider."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qdeploy.deploy.engine import KernelTime
from qdeploy.errors import DataError, ModelError

Array = npt.NDArray[Any]

# ONNX Runtime fuses residual sums with LayerNormalization by itself, and on the CPU provider the
# fused kernel is several times slower than the two; FP32 baselines gain from this too.
SLOW_FUSIONS = ("SkipLayerNormFusion",)


def session_options(threads: int) -> ort.SessionOptions:
    """Options of every timed session: a stated number of threads, no slow fusion."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """A CPU session of an ONNX file.

    Raises:
        ModelError: the file is missing or damaged.
    """
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
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise DataError(f"The engine needs the inputs {', '.join(missing)}.")
        outputs = self._session.run(None, {name: feeds[name] for name in self.input_names})
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each kernel over `iterations` runs after one warm-up."""
        with tempfile.TemporaryDirectory() as folder:
            options = session_options(self.threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = open_session(self.path, options)
            wanted = {name: feeds[name] for name in self.input_names}
            for _ in range(iterations + 1):
                session.run(None, wanted)
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        return _kernel_times(events, iterations + 1)


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
