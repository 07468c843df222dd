"""The target `tensorrt-rtx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from qdeploy.deploy.health import Health, rtx_package
from qdeploy.deploy.targets.base import Snippet
from qdeploy.deploy.targets.tensorrt.target import TensorRt
from qdeploy.errors import TargetError
from qdeploy.schemas.manifest import CompiledFields, EngineFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qdeploy.deploy.compilation import Compilation
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.lowered import TraceName
    from qdeploy.deploy.options import CompileOptions


# By strategy, why a device does not have it, and the way out.
_WITHOUT = {
    "fp8": (
        "FP8 needs 8.9 or later (Ada, Blackwell). Leave it out, or take --strategy peg, whose INT8"
        " is compiled for 7.5 on."
    ),
    "fp32": (
        "TensorRT-RTX has no FP32 products there. Take --strategy fp16, or leave that device out."
    ),
}


class TensorRtRtx(TensorRt):
    """TensorRT-RTX: the graphs of `tensorrt`, compiled without a GPU for those that are named."""

    name = "tensorrt-rtx"
    description = "TensorRT-RTX 1.7: compiled on any machine, for RTX GPUs; int8, FP8 and FP16"
    takes: ClassVar[tuple[str, ...]] = (
        *("min_shape", "max_shape", "compute_capability", "cuda_graph"),
    )
    ahead_of_time = True

    def require(self) -> None:
        from qdeploy.deploy.targets.tensorrt.api import RTX

        RTX.package()

    def check_devices(self, how: CompileOptions) -> None:
        from qdeploy.deploy.targets.tensorrt.proof import known_capabilities

        known = known_capabilities()
        if others := [one for one in how.capabilities if one not in known]:
            raise TargetError(
                f"--compute-capability {', '.join(others)}: TensorRT-RTX does not build for that. "
                f"It builds for {', '.join(known)}."
            )

    def devices_of(self, strategy: str, devices: Sequence[str]) -> tuple[str, ...]:
        from qdeploy.deploy.targets.tensorrt.proof import devices_of

        return devices_of(strategy, devices)

    def check_strategy(self, strategy: str, how: CompileOptions) -> None:
        able = self.devices_of(strategy, how.capabilities)
        if older := [one for one in how.capabilities if one not in able]:
            why = _WITHOUT[strategy]
            raise TargetError(f"--compute-capability {', '.join(older)}: {why}")

    def require_fp8(self) -> None:
        """Nothing: it is compiled for devices that need not be here."""

    def aimed(self, manifest: EngineFields, how: CompileOptions) -> tuple[str, ...]:
        """Compute capabilities of the devices that an engine is compiled for."""
        from qdeploy.deploy.targets.tensorrt.proof import capabilities_of

        return capabilities_of(manifest, how.capabilities)

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        from qdeploy.deploy.targets.tensorrt_rtx.directory import compile_directory

        return compile_directory(directory, manifest, shape, how)

    def runs_here(self) -> bool:
        from qdeploy.deploy.targets.tensorrt_rtx.directory import device_here

        return device_here() is not None

    def open_built(self, directory: Path, manifest: EngineFields, threads: int) -> Engine | None:
        """None where no GPU is at hand, or one of another kind than it was compiled for."""
        from qdeploy.deploy.targets.tensorrt_rtx.directory import device_here

        aimed = (manifest.get("builder") or {}).get("compute_capabilities") or []
        found = device_here()
        if found is None or found["compute_capability"] not in aimed:
            return None
        return self.open(directory, manifest, threads)

    def compilation(
        self,
        directory: Path,
        manifest: EngineFields,
        gemms: Mapping[str, Sequence[TraceName]],
        how: CompileOptions,
    ) -> Compilation | None:
        from qdeploy.deploy.targets.tensorrt import proof
        from qdeploy.deploy.targets.tensorrt.directory import LAYERS

        capabilities = self.aimed(manifest, how)
        if not manifest.get("dry_run"):
            text = (directory / LAYERS).read_text("utf-8")
        elif proof.is_installed():
            text = proof.compile_graph(directory, manifest, how, capabilities)
        else:
            return None
        return proof.compilation_of(text, capabilities, gemms)

    def finish(self, directory: Path, engine: Engine | None) -> None:
        """The plan takes the place of its graph, which noise may have been measured on."""
        from qdeploy.deploy.targets.tensorrt.directory import PLAN, drop_graph
        from qdeploy.deploy.targets.tensorrt.engine import TensorRtEngine
        from qdeploy.deploy.targets.tensorrt_rtx.directory import KERNELS

        if not (directory / PLAN).exists():  # a dry run
            return
        drop_graph(directory)
        if isinstance(engine, TensorRtEngine) and (kernels := engine.kernels()):
            (directory / KERNELS).write_bytes(kernels)

    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        from qdeploy.deploy.targets.tensorrt_rtx.directory import open_directory

        return open_directory(directory, manifest, threads)

    def diagnose(self) -> Health:
        from qdeploy.deploy.targets.tensorrt_rtx.check import diagnose

        return diagnose(self.install_hint())

    def install_hint(self) -> str:
        return rtx_package()

    def snippet(self) -> Snippet:
        run = "tensorrt_rtx --loadEngine=model.plan --dumpProfile"
        return Snippet("TensorRT-RTX", "", run, language="sh")
