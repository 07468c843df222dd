"""The engine of `ort-cpu`: an ONNX Runtime session on the CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qdeploy.deploy.engine import KernelTime, Witness, inputs_of
from qdeploy.deploy.lowering.lowered import Mark
from qdeploy.deploy.one_process import OfOneProcess
from qdeploy.graph.session import refused, run_session

Array = npt.NDArray[Any]

# ONNX Runtime fuses residual sums with LayerNormalization by itself, and on the CPU provider the
# fused kernel is several times slower than the two; FP32 baselines gain from this too.
SLOW_FUSIONS = ("SkipLayerNormFusion",)
_EXTERNAL = "session.optimized_model_external_initializers_file_name"


def require() -> None:
    """Nothing more is needed than the package that this module imports."""


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
        optimized: where to write the graph that runs; its weights go beside it, wherever those of
            the file stand.

    Raises:
        RunError: the file is missing or damaged.
    """
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry(_EXTERNAL, f"{optimized.name}.data")
    try:
        return ort.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
    except Exception as error:  # onnxruntime raises classes of its own for each cause
        remedy = (
            f"{path.name}.data, if it was written with one, has to stand beside it; else build it "
            "again."
        )
        raise refused(error, path, "does not load in ONNX Runtime", remedy) from error


class OrtCpuEngine(OfOneProcess):
    """See `qdeploy.deploy.engine.Engine`; a session takes runs of any number of threads.

    Attributes:
        proof_packages: what `witness` imports to read the graph that ran.
    """

    proof_packages: tuple[str, ...] = ("onnx_ir",)

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
        from qdeploy.deploy.ort.profile import profiled  # onnx-ir, which a server has no use for

        return profiled(self.path, self.threads, feeds, iterations)[0]

    def witness(
        self, gemms: Mapping[str, Sequence[Mark]], feeds: Mapping[str, Array], iterations: int = 3
    ) -> Witness:
        """Find each GEMM by its weights in the graph that ran."""
        from qdeploy.deploy.ort.profile import find_kernels, profiled

        kernels, graph = profiled(self.path, self.threads, feeds, iterations)
        return Witness(find_kernels(graph, gemms, kernels), kernels)


def open_directory(directory: Path, manifest: dict[str, Any], threads: int) -> OrtCpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    return OrtCpuEngine(directory / "model.onnx", threads=threads)
