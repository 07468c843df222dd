"""A lowered graph on ONNX Runtime's CPU provider: the numbers of a target that is not here.

Q/DQ pairs stay as they are written (no integer kernels stand in for them), and what the CPU
provider has no FP16 kernel for runs in FP32 between casts. So accuracy is that of the graph, up to
the order of sums; times and kernels say nothing, and are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.session import as_written, open_session, session_options
from qdeploy.errors import ModelError, PlanError
from qdeploy.graph.session import run_session

_NO_KERNELS = "A simulated engine has no kernels: it runs on the CPU, whatever its target."


class SimulatedEngine(Engine):
    """See `qdeploy.deploy.engine.Engine`; it has no kernels to tell of."""

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__()
        if not path.is_file():
            raise ModelError(
                f"{path} does not exist: only the graph of a `build --dry-run` can be simulated."
            )
        options = as_written(session_options(threads))
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.path, self.threads = path, threads
        self._session = open_session(path, options)
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(
        self, feeds: Mapping[str, npt.NDArray[np.generic]]
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Run once; int64 [B, S] feeds, FP32 outputs."""
        self.check_process()
        outputs = run_session(self._session, inputs_of(feeds, self.input_names), self.path)
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(
        self, feeds: Mapping[str, npt.NDArray[np.generic]], iterations: int = 20
    ) -> list[KernelTime]:
        """Not offered."""
        raise PlanError(_NO_KERNELS)

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, npt.NDArray[np.generic]],
        iterations: int = 3,
    ) -> KernelTrace:
        """Not offered."""
        raise PlanError(_NO_KERNELS)
