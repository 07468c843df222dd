"""The target `ort-cuda`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.health import Health, gpu_package
from qdeploy.deploy.targets.base import HalfTarget, Snippet, onnx_runtime_snippet
from qdeploy.schemas.manifest import EngineFields

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.cost_model import Costs
    from qdeploy.deploy.lowering.lowered import Lowered
    from qdeploy.deploy.rules import BrokenRule
    from qdeploy.graph.structure import Structure


class OrtCuda(HalfTarget):
    """ONNX Runtime's CUDA provider."""

    name = "ort-cuda"
    description = "ONNX Runtime, CUDA provider: int8 by MatMulInteger, the rest in FP16"

    @property
    def costs(self) -> Costs:
        from qdeploy.deploy.targets.ort_cuda.lower import COSTS

        return COSTS

    def require(self) -> None:
        from qdeploy.deploy.targets.ort_cuda.engine import require

        require()

    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        from qdeploy.deploy.targets.ort_cuda.lower import lower

        return lower(model, plan, structure, tokens)

    def broken_rules(self, model: ir.Model) -> list[BrokenRule]:
        from qdeploy.deploy.targets.ort_cuda.rules import broken_rules

        return broken_rules(model)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.ort_cuda.engine import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.ort_cuda.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return gpu_package()

    def snippet(self) -> Snippet:
        return onnx_runtime_snippet('providers=["CUDAExecutionProvider"]')
