"""The target `tensorrt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from qdeploy.deploy.health import Health, tensorrt_package
from qdeploy.deploy.targets.base import HalfTarget, Snippet
from qdeploy.schemas.manifest import CompiledFields, EngineFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.compilation import Compilation
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.cost_model import Costs
    from qdeploy.deploy.lowering.lowered import Lowered, TraceName
    from qdeploy.deploy.options import CompileOptions
    from qdeploy.deploy.rules import BrokenRule
    from qdeploy.graph.structure import Structure
    from qdeploy.schemas.inspection import CompiledFile


# Of `CompileOptions`: those that TensorRT's builder heeds, whoever runs the plan.
BUILDER_OPTIONS = ("min_shape", "max_shape", "workspace_mb", "timing_cache", "refit")


class TensorRt(HalfTarget):
    """TensorRT, strongly typed."""

    name = "tensorrt"
    description = "TensorRT 10 and 11: strongly typed int8, FP8 and FP16"
    takes: ClassVar[tuple[str, ...]] = (
        *BUILDER_OPTIONS,
        *("version_compatible", "cuda_graph"),
    )
    adds_int8 = True
    takes_fp8 = True

    @property
    def costs(self) -> Costs:
        from qdeploy.deploy.targets.tensorrt.lower import COSTS

        return COSTS

    def require(self) -> None:
        from qdeploy.deploy.targets.tensorrt.directory import require

        require()

    def require_fp8(self) -> None:
        from qdeploy.deploy.cuda import require_fp8

        require_fp8()

    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        from qdeploy.deploy.targets.tensorrt.lower import lower

        return lower(model, plan, structure, tokens)

    def broken_rules(self, model: ir.Model) -> list[BrokenRule]:
        from qdeploy.deploy.targets.tensorrt.rules import broken_rules

        return broken_rules(model)

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        from qdeploy.deploy.targets.tensorrt.directory import compile_directory

        return compile_directory(directory, manifest, shape, how)

    def compilation(
        self,
        directory: Path,
        manifest: EngineFields,
        gemms: Mapping[str, Sequence[TraceName]],
        how: CompileOptions,
    ) -> Compilation | None:
        """Of a dry run what TensorRT-RTX makes of it, where that is installed."""
        from qdeploy.deploy.targets.tensorrt import proof

        if not manifest.get("dry_run") or not proof.is_installed():
            return None
        aimed = proof.first_of(manifest)
        layers = proof.compile_graph(directory, manifest, how, aimed)
        return proof.compilation_of(layers, aimed, gemms)

    @property
    def compiles_files(self) -> bool:
        from qdeploy.deploy.targets.tensorrt.api import RTX

        return RTX.is_there()

    def compile_file(self, path: Path) -> CompiledFile:
        """By TensorRT-RTX."""
        from qdeploy.deploy.targets.tensorrt.any_file import compile_file

        return compile_file(path)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.tensorrt.directory import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.tensorrt.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return tensorrt_package()

    def snippet(self) -> Snippet:
        run = "trtexec --loadEngine=model.plan --dumpProfile"
        return Snippet("TensorRT", "", run, language="sh")
