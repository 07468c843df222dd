"""Engine directories of `tensorrt`: compiled from their graph, and opened."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from qdeploy.deploy.cuda import device
from qdeploy.deploy.health import ELSEWHERE
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.targets.tensorrt.api import TENSORRT
from qdeploy.deploy.targets.tensorrt.builder import Built, Settings, build_plan
from qdeploy.deploy.targets.tensorrt.engine import TensorRtEngine
from qdeploy.deploy.targets.tensorrt.opened import Opened
from qdeploy.errors import QDeployWarning, TargetError
from qdeploy.schemas.manifest import CompiledFields, EngineFields, Shapes

ONNX, PLAN, LOG, LAYERS = "model.onnx", "model.plan", "builder.log", "layers.json"


def require() -> None:
    """Refuse what cannot be compiled here.

    Raises:
        TargetError: TensorRT, CUDA or a GPU is missing, with the way out.
    """
    try:
        TENSORRT.package()
        device()
    except TargetError as error:
        raise TargetError(f"{str(error).rstrip('.')}. {ELSEWHERE}") from None


def compile_directory(
    directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
) -> CompiledFields:
    """Compile model.onnx to model.plan, which takes its place.

    Beside it builder.log, and layers.json: what the engine inspector says of it.

    Returns:
        {"builder": {"tensorrt", "device", "shapes", …}, "cuda_graph"} for the manifest.

    Raises:
        ModelError, TargetError: see `build_plan`.
    """
    shapes, settings = profile_of(manifest, shape, how)
    cache = None if how.timing_cache is None else Path(how.timing_cache)
    settings = replace(
        settings,
        workspace_mb=how.workspace_mb,
        timing_cache=cache.read_bytes() if cache is not None and cache.is_file() else b"",
        version_compatible=how.version_compatible,
        refit=how.refit,
    )
    built = build_plan(directory / ONNX, settings)
    opened = Opened(built.plan, host_code=how.version_compatible)
    write_built(directory, built, opened.information())
    if cache is not None:
        _keep_timings(cache, built.timing_cache)
    drop_graph(directory)
    return {
        "cuda_graph": how.cuda_graph,
        "builder": {
            "tensorrt": TENSORRT.package().__version__,
            "device": device(),
            "shapes": shapes,
            "workspace_mb": how.workspace_mb,
            "version_compatible": how.version_compatible,
            "refit": how.refit,
        },
    }


def profile_of(
    manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
) -> tuple[Shapes, Settings]:
    """The shapes of a plan: for the manifest, and as the builder takes them."""
    found = how.profile(shape, int(manifest["max_length"]))
    told: Shapes = {
        "min": list(found["min"]),
        "opt": list(found["opt"]),
        "max": list(found["max"]),
    }
    each = (found["min"], found["opt"], found["max"])
    return told, Settings(shapes=dict.fromkeys(manifest["inputs"], each))


def write_built(directory: Path, built: Built, layers: str) -> None:
    """model.plan, builder.log and layers.json.

    Args:
        layers: JSON of all layers.
    """
    (directory / PLAN).write_bytes(built.plan)
    (directory / LOG).write_text("\n".join(built.log) + "\n", "utf-8")
    (directory / LAYERS).write_text(layers, "utf-8")


def drop_graph(directory: Path) -> None:
    """Remove the graph that a plan was made of."""
    for left in directory.glob(f"{ONNX}*"):
        left.unlink()


def _keep_timings(cache: Path, timings: bytes) -> None:
    """Write the timing cache whole, or warn: the engine is built by then."""
    try:
        written = cache.with_name(f"{cache.name}.part")
        written.write_bytes(timings)
        written.replace(cache)
    except OSError as error:
        text = f"The timing cache {cache} was not written: {error.strerror}."
        warnings.warn(text, QDeployWarning, stacklevel=3)


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> TensorRtEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    builder = manifest.get("builder")
    return TensorRtEngine(
        directory / PLAN,
        threads=threads,
        graphs=bool(manifest.get("cuda_graph", True)),
        host_code=bool(builder and builder.get("version_compatible")),
    )
