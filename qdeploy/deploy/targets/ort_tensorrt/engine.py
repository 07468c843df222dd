"""The engine of `ort-tensorrt`: a plan that ONNX Runtime's TensorRT provider runs.

The plan is built as that of `tensorrt` is, strongly typed and with detailed verbosity, and wrapped
in an ONNX file of one node, EPContext, which that provider takes as it is. Left to itself the
provider builds weakly typed engines whose layers name no types, so that nothing could be proved of
them; and a node that it does not take would fall to another provider. Here none can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.cuda import device
from qdeploy.deploy.engine import KernelTrace
from qdeploy.deploy.health import ELSEWHERE, both_packages
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.ort.gpu import ONNX, OrtGpuEngine, require_provider
from qdeploy.deploy.targets.tensorrt import directory as plans
from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.deploy.targets.tensorrt.api import TENSORRT as LIBRARY
from qdeploy.deploy.targets.tensorrt.directory import PLAN
from qdeploy.deploy.targets.tensorrt.engine import read_plan
from qdeploy.deploy.targets.tensorrt.opened import Opened
from qdeploy.errors import TargetError
from qdeploy.schemas.manifest import CompiledFields, EngineFields
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnx_ir as ir

TENSORRT = "TensorrtExecutionProvider"
_MAJOR = "10"  # what onnxruntime-gpu links
_IR_VERSION, _OPSET = 10, 20


class OrtTensorRtEngine(OrtGpuEngine):
    """See `qdeploy.deploy.engine.Engine`."""

    proof_packages = ()  # layers of the plan name their nodes
    provider = TENSORRT

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Find each GEMM by the ONNX nodes that the plan's layers name; without times.

        A node that ran on another provider stands as the fallback reason of every GEMM.
        """
        from qdeploy.deploy.ort.events import providers_of

        providers = providers_of(self.events(feeds, iterations))
        layers = inspector.layers(self.layers())
        kernels = inspector.kernels(layers, {})
        strays = sorted({f"{n} on {p}" for n, p in providers.items() if p != self.provider})
        if strays:
            reason = f"not all of the graph ran in TensorRT: {', '.join(strays)}"
            kernels = [replace(kernel, int8=False, fallback_reason=reason) for kernel in kernels]
        return KernelTrace(inspector.of_gemms(layers, kernels, gemms), kernels)

    def layers(self) -> str:
        """What the engine inspector tells of the plan's layers, JSON."""
        return Opened(read_plan(self.path.parent / PLAN)).information()


def require() -> None:
    """Refuse what cannot be compiled or run here.

    Raises:
        TargetError: the provider, TensorRT 10, CUDA or a GPU is missing, with the way out.
    """
    try:
        found = LIBRARY.package()  # first: it loads the libraries that the provider links
        require_provider(TENSORRT)
        device()
    except TargetError as error:
        reason = str(error).split(" Type: ")[0]
        raise TargetError(f"{reason} {both_packages()}. {ELSEWHERE}") from None
    version = str(found.__version__)
    if version.split(".")[0] != _MAJOR:
        raise TargetError(
            f"ONNX Runtime's TensorRT provider is of TensorRT {_MAJOR}, and here is {version}. "
            f"{both_packages()}; or take --target tensorrt. {ELSEWHERE}"
        )


def compile_directory(
    directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
) -> CompiledFields:
    """Compile model.onnx to model.plan; the wrapper takes its place.

    Returns:
        As `plans.compile_directory`, without "cuda_graph".

    Raises:
        ModelError, TargetError: see `qdeploy.deploy.targets.tensorrt.builder.build_plan`.
    """
    import onnx_ir as ir  # which a machine that runs engines does without

    outside = wrapper(ir.load(directory / ONNX))
    found = plans.compile_directory(directory, manifest, shape, how)
    ir.save(outside, directory / ONNX)
    return {"builder": found["builder"]}


def wrapper(model: ir.Model, provider: str = TENSORRT, **more: str) -> ir.Model:
    """A graph with the inputs and outputs of another, and one node that stands for its plan.

    Source: ONNX Runtime, "EP Context Cache Feature Design".

    Args:
        provider: that made the plan, for the node.
        more: attributes of the node that this provider reads beside those of the design.
    """
    import onnx_ir as ir

    inputs = [_like(value) for value in model.graph.inputs]
    outputs = [_like(value) for value in model.graph.outputs]
    attributes: dict[str, int | str] = {
        "main_context": 1,
        "embed_mode": 0,
        "ep_cache_context": PLAN,
        "source": provider,
        **more,
    }
    node = ir.node(
        "EPContext", inputs, attributes, domain="com.microsoft", outputs=outputs, name="plan"
    )
    opsets = {"": _OPSET, "com.microsoft": 1}
    graph = ir.Graph(inputs, outputs, nodes=[node], opset_imports=opsets, name="plan")
    return ir.Model(graph, ir_version=_IR_VERSION)


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> OrtTensorRtEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    del manifest
    require()
    return OrtTensorRtEngine(directory / ONNX, threads=threads)


def _like(value: ir.Value) -> ir.Value:
    import onnx_ir as ir

    return ir.Value(name=value.name, shape=value.shape, type=value.type)
