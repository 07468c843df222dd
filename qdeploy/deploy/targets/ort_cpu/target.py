"""The target `ort-cpu`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.health import Health
from qdeploy.deploy.targets.base import Snippet, Target, onnx_runtime_snippet
from qdeploy.machine.remedies import install_command
from qdeploy.schemas.manifest import EngineFields

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.lowered import Lowered
    from qdeploy.graph.structure import Structure


class OrtCpu(Target):
    """ONNX Runtime's CPU provider."""

    name = "ort-cpu"
    description = "ONNX Runtime, CPU provider: uint8 activations, int8 weights"
    pre_quant_scale = "folded"
    script = "ort"

    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        from qdeploy.deploy.targets.ort_cpu.lower import lower

        return lower(model, plan, structure, tokens)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.ort_cpu.engine import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.ort_cpu.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return f"Type: {install_command('cpu', options='--upgrade')}"

    def snippet(self) -> Snippet:
        return onnx_runtime_snippet(
            'providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]'
        )
