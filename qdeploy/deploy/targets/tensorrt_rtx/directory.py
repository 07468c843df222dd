"""Engine directories of `tensorrt-rtx`: compiled ahead of time, and opened on an RTX GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qdeploy.deploy.cuda import device
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.builder import build_plan
from qdeploy.deploy.targets.tensorrt.directory import PLAN, profile_of, write_built
from qdeploy.deploy.targets.tensorrt.dump import layers_json
from qdeploy.deploy.targets.tensorrt.engine import TensorRtEngine
from qdeploy.deploy.targets.tensorrt.proof import capabilities_of
from qdeploy.errors import TargetError
from qdeploy.schemas.manifest import CompiledFields, Device, EngineFields

# Kernels that were compiled on a device, so that the next load there starts at once. Held against
# its digest as the plan is: it is code that runs.
KERNELS = "kernels.cache"


def device_here() -> Device | None:
    """The GPU of this machine; None where there is none."""
    try:
        return device()
    except TargetError:
        return None


def compile_directory(
    directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
) -> CompiledFields:
    """Compile model.onnx to model.plan, and keep the builder's list of its layers.

    Beside it builder.log and layers.json. Needs no GPU.

    Returns:
        {"builder": {"tensorrt_rtx", "device", "compute_capabilities", "shapes"}, "cuda_graph"} for
        the manifest; the device is None where none is at hand.

    Raises:
        ModelError, TargetError: see `build_plan`.
    """
    shapes, settings = profile_of(manifest, shape, how)
    capabilities = capabilities_of(manifest, how.capabilities)
    built = build_plan(directory / "model.onnx", replace(settings, capabilities=capabilities), RTX)
    write_built(directory, built, layers_json(built.dump, RTX.title))
    return {
        "cuda_graph": how.cuda_graph,
        "builder": {
            "tensorrt_rtx": RTX.package().__version__,
            "device": device_here(),
            "compute_capabilities": list(capabilities),
            "shapes": shapes,
        },
    }


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> TensorRtEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`.

    Raises:
        TargetError: there is no GPU, or one of another kind than it was compiled for.
    """
    RTX.package()
    require_aimed(manifest)
    kept = directory / KERNELS
    return TensorRtEngine(
        directory / PLAN,
        threads=threads,
        graphs=bool(manifest.get("cuda_graph", True)),
        library=RTX,
        kernels=kept.read_bytes() if kept.is_file() else b"",
    )


def require_aimed(manifest: EngineFields) -> None:
    """Refuse an engine whose devices are not here.

    Raises:
        TargetError: there is no GPU, or one of another kind than it was compiled for.
    """
    builder = manifest.get("builder") or {}
    aimed = builder.get("compute_capabilities") or []
    try:
        found = device()
    except TargetError as error:
        raise TargetError(
            f"{str(error).rstrip('.')}. This engine runs on RTX GPUs of compute capability "
            f"{', '.join(aimed)}; build with --dry-run and `eval --simulate` for its accuracy here."
        ) from None
    if aimed and found["compute_capability"] not in aimed:
        raise TargetError(
            f"{found['name']} has compute capability {found['compute_capability']}, and this "
            f"engine was compiled for {', '.join(aimed)}. Build it with --compute-capability "
            f"{found['compute_capability']}."
        )
