"""The engine of `ort-cpu`: an ONNX Runtime session on the CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.events import timed
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.graph.session import run_session
from qdeploy.schemas.manifest import EngineFields
from qdeploy.types import Array


class OrtCpuEngine(Engine):
    """See `qdeploy.deploy.engine.Engine`; a session takes runs of any number of threads.

    Attributes:
        proof_packages: what `trace_gemms` imports to read the graph that ran.
    """

    proof_packages = ("onnx_ir",)

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__()
        self.path = path
        self.threads = threads
        self._session = open_session(path, session_options(threads))
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
            RunError: the graph does not run on these inputs.
        """
        self.check_process()
        outputs = run_session(self._session, inputs_of(feeds, self.input_names), self.path)
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each kernel over `iterations` runs after one warm-up."""
        return timed(self.path, self.threads, feeds, iterations)

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Find each GEMM by its weights in the graph that ran."""
        # onnx-ir, which a server has no use for
        from qdeploy.deploy.ort.profile import find_kernels, profiled

        kernels, graph = profiled(self.path, self.threads, feeds, iterations)
        return KernelTrace(find_kernels(graph, gemms, kernels), kernels)


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> OrtCpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    return OrtCpuEngine(directory / "model.onnx", threads=threads)
