"""The target `openvino`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.health import Health
from qdeploy.deploy.targets.base import Snippet, Target
from qdeploy.machine.remedies import install_command
from qdeploy.schemas.manifest import EngineFields

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.lowered import Lowered
    from qdeploy.graph.structure import Structure


class OpenVino(Target):
    """OpenVINO's CPU plugin; a multiplication becomes part of its rounding."""

    name = "openvino"
    description = "OpenVINO on the CPU: INT8 GEMMs, the rest in FP32 or BF16"
    rest_precisions = ("f32", "bf16")
    script = "openvino"

    def require(self) -> None:
        from qdeploy.deploy.targets.openvino.engine import require

        require()

    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        from qdeploy.deploy.targets.openvino.lower import lower

        return lower(model, plan, structure, tokens)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.openvino.engine import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.openvino.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return f"Type: {install_command('openvino', options='--upgrade')}"

    def snippet(self) -> Snippet:
        run = """settings = {"PERFORMANCE_HINT": "LATENCY"}
engine = openvino.Core().compile_model("model.onnx", "CPU", settings)
outputs = {port.get_any_name(): values for port, values in engine(feeds).items()}"""
        packages = ("openvino", "tokenizers", "numpy")
        return Snippet("OpenVINO", "import openvino", run, packages)
