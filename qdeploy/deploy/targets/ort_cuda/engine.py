"""The engine of `ort-cuda`: an ONNX Runtime session on the CUDA provider."""

from __future__ import annotations

from pathlib import Path

from qdeploy.deploy.ort.gpu import CUDA, ONNX, OrtGpuEngine, require_provider
from qdeploy.schemas.manifest import EngineFields


def require() -> None:
    """Refuse a machine without the package or a GPU.

    Raises:
        TargetError: what is missing.
    """
    require_provider(CUDA)


def open_directory(directory: Path, manifest: EngineFields, threads: int) -> OrtGpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    del manifest
    require()
    return OrtGpuEngine(directory / ONNX, threads=threads)
