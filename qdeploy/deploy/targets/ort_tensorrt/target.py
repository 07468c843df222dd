"""The target `ort-tensorrt`: TensorRT's graphs, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.health import Health, both_packages
from qdeploy.deploy.targets.base import Snippet, onnx_runtime_snippet
from qdeploy.deploy.targets.tensorrt.target import BUILDER_OPTIONS, TensorRt
from qdeploy.schemas.manifest import CompiledFields, EngineFields

if TYPE_CHECKING:
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.options import CompileOptions


class OrtTensorRt(TensorRt):
    """ONNX Runtime's TensorRT provider."""

    name = "ort-tensorrt"
    description = "ONNX Runtime, TensorRT provider (TensorRT 10): int8, FP8 and FP16"
    takes = BUILDER_OPTIONS

    def require(self) -> None:
        from qdeploy.deploy.targets.ort_tensorrt.engine import require

        require()

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        from qdeploy.deploy.targets.ort_tensorrt.engine import compile_directory

        return compile_directory(directory, manifest, shape, how)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.ort_tensorrt.engine import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.ort_tensorrt.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return both_packages()

    def snippet(self) -> Snippet:
        return onnx_runtime_snippet('providers=["TensorrtExecutionProvider"]')
