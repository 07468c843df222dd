"""The target `ort-tensorrt-rtx`: plans of TensorRT-RTX, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.health import Health, rtx_provider_package
from qdeploy.deploy.targets.base import Snippet
from qdeploy.deploy.targets.tensorrt_rtx.target import TensorRtRtx
from qdeploy.errors import TargetError
from qdeploy.schemas.manifest import CompiledFields, EngineFields

if TYPE_CHECKING:
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.options import CompileOptions


class OrtTensorRtRtx(TensorRtRtx):
    """ONNX Runtime's TensorRT-RTX provider, a plugin."""

    name = "ort-tensorrt-rtx"
    description = "ONNX Runtime, TensorRT-RTX provider: compiled on any machine, for RTX GPUs"

    def require(self) -> None:
        """TensorRT-RTX builds; the provider is needed where the engine runs."""
        try:
            super().require()
        except TargetError as error:
            reason = str(error).partition(" Type: ")[0]
            raise TargetError(f"{reason} {rtx_provider_package()}") from None

    def check_devices(self, how: CompileOptions) -> None:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import check_devices

        check_devices(how.capabilities)

    def aimed(self, manifest: EngineFields, how: CompileOptions) -> tuple[str, ...]:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import aimed

        return aimed(manifest, how.capabilities)

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import compile_directory

        return compile_directory(directory, manifest, shape, how)

    def runs_here(self) -> bool:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import runs_here

        return runs_here()

    def open_built(self, directory: Path, manifest: EngineFields, threads: int) -> Engine | None:
        """None where no GPU that it was compiled for is at hand, or no provider."""
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import runs_here, wrap

        aimed = (manifest.get("builder") or {}).get("compute_capabilities") or []
        if not runs_here(tuple(aimed)):
            return None
        wrap(directory)
        return self.open(directory, manifest, threads)

    def finish(self, directory: Path, engine: Engine | None) -> None:
        """The wrapper takes the place of the graph, which noise may have been measured on."""
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import wrap
        from qdeploy.deploy.targets.tensorrt.directory import PLAN

        if (directory / PLAN).exists():  # not a dry run
            wrap(directory)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.ort_tensorrt_rtx.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return rtx_provider_package()

    def snippet(self) -> Snippet:
        run = """onnxruntime.register_execution_provider_library(
    rtx.get_ep_name(), rtx.get_library_path()
)
devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == rtx.get_ep_name()]
options = onnxruntime.SessionOptions()
options.add_provider_for_devices(devices[:1], {"enable_cuda_graph": "1"})
engine = onnxruntime.InferenceSession("model.onnx", options)
names = [output.name for output in engine.get_outputs()]
outputs = dict(zip(names, engine.run(None, feeds)))"""
        imports = "import onnxruntime\nimport onnxruntime_ep_nv_tensorrt_rtx as rtx"
        packages = ("onnxruntime", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "tokenizers", "numpy")
        return Snippet("ONNX Runtime", imports, run, packages)
