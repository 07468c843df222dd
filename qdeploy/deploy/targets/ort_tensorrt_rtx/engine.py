"""The engine of `ort-tensorrt-rtx`: a plan of TensorRT-RTX that ONNX Runtime's plugin runs.

The plan is that of `tensorrt-rtx`, compiled without a GPU, and is wrapped in an ONNX file of one
node, EPContext, as `ort-tensorrt` does. Left to itself the provider would build the engine when the
file is loaded, and nothing could be said of it before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from qdeploy.deploy.cuda import Buffer
from qdeploy.deploy.engine import inputs_of
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.ort.gpu import ONNX
from qdeploy.deploy.targets.ort_tensorrt.engine import OrtTensorRtEngine, wrapper
from qdeploy.deploy.targets.ort_tensorrt_rtx.provider import (
    CAPABILITIES,
    PROVIDER,
    provider_device,
)
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.directory import PLAN, drop_graph
from qdeploy.deploy.targets.tensorrt.engine import read_plan
from qdeploy.deploy.targets.tensorrt.opened import Opened
from qdeploy.deploy.targets.tensorrt.proof import capabilities_of
from qdeploy.deploy.targets.tensorrt_rtx import directory as plans
from qdeploy.errors import TargetError
from qdeploy.schemas.manifest import CompiledFields, EngineFields
from qdeploy.types import Array


class OrtTensorRtRtxEngine(OrtTensorRtEngine):
    """See `qdeploy.deploy.engine.Engine`.

    Attributes:
        graphs: whether TensorRT-RTX launches runs of a shape that came before as one CUDA graph.
    """

    provider = PROVIDER

    def __init__(self, path: Path, *, threads: int = 2, graphs: bool = True) -> None:
        self.graphs = graphs
        super().__init__(path, threads=threads)

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on inputs that lie on the device already, and whose outputs stay there.

        The memory is qdeploy's own: onnxruntime without CUDA allocates none for a plugin.
        """
        given = {n: np.ascontiguousarray(a) for n, a in inputs_of(feeds, self.input_names).items()}
        made = self.run(given)  # the outputs' shapes, and the kernels of this one
        binding = self._session.io_binding()
        held = []
        for arrays, bind in ((given, binding.bind_input), (made, binding.bind_output)):
            for name, array in arrays.items():
                buffer = Buffer(array.nbytes)
                buffer.fill(array, self._stream)
                bind(name, self.device, 0, array.dtype, array.shape, buffer.pointer)
                held.append(buffer)
        self._stream.wait()
        return partial(self._launch, binding, held)

    def layers(self) -> str:
        """What the engine inspector tells of the plan's layers on this device, JSON."""
        plan = read_plan(self.path.parent / PLAN)
        return Opened(plan, library=RTX).information()

    def _start(self, options: ort.SessionOptions) -> ort.InferenceSession:
        # with graphs on, kernels of a shape are compiled before its first run, and not beside it
        given = {**self._on_stream(), "enable_cuda_graph": str(int(self.graphs))}
        options.add_provider_for_devices([provider_device()], given)
        return ort.InferenceSession(self.path, options, enable_fallback=0)


def check_devices(named: tuple[str, ...]) -> None:
    """Refuse devices that the provider does.

    Raises:
        TargetError: with the way out.
    """
    if refused := [one for one in named if one not in CAPABILITIES]:
        raise TargetError(
            f"--compute-capability {', '.join(refused)}: ONNX Runtime's TensorRT-RTX provider "
            f"takes {', '.join(CAPABILITIES)}. Leave it out, or take --target tensorrt-rtx."
        )


def aimed(manifest: EngineFields, named: tuple[str, ...]) -> tuple[str, ...]:
    """What an engine is compiled for: as named, else all that the provider takes."""
    return tuple(one for one in capabilities_of(manifest, named) if one in CAPABILITIES)


def compile_directory(
    directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
) -> CompiledFields:
    """Compile model.onnx to model.plan, as `tensorrt-rtx` does; the graph stays until `wrap`."""
    named = aimed(manifest, how.capabilities)
    return plans.compile_directory(
        directory, manifest, shape, replace(how, compute_capability=named)
    )


def wrap(directory: Path) -> None:
    """The wrapper of the plan takes the place of the graph that it was made of."""
    import onnx_ir as ir  # which a machine that runs engines does without

    graph = ir.load(directory / ONNX)
    if any(node.op_type == "EPContext" for node in graph.graph):
        return
    # the provider reads no more than this; names of its kernel caches begin with the partition
    outside = wrapper(graph, PROVIDER, partition_name="plan")
    drop_graph(directory)
    ir.save(outside, directory / ONNX)


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> OrtTensorRtRtxEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`.

    Raises:
        TargetError: there is no GPU, one of another kind than it was compiled for, or no provider.
    """
    plans.require_aimed(manifest)
    provider_device()
    graphs = bool(manifest.get("cuda_graph", True))
    return OrtTensorRtRtxEngine(directory / ONNX, threads=threads, graphs=graphs)


def runs_here(capabilities: tuple[str, ...] = CAPABILITIES) -> bool:
    """Whether a GPU of one of these kinds and the provider are at hand."""
    found = plans.device_here()
    if found is None or found["compute_capability"] not in capabilities:
        return False
    try:
        provider_device()
    except TargetError:
        return False
    return True
