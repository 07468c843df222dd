"""The engine of `ort-cuda`: an ONNX Runtime session on the CUDA provider."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.ort.gpu import CUDA, ONNX, OrtGpuEngine, require_provider


def require() -> None:
    """Refuse a machine without the package or a GPU.

    Raises:
        TargetError: what is missing.
    """
    require_provider(CUDA)


def compile_directory(
    directory: Path, manifest: Mapping[str, Any], shape: tuple[int, int], how: CompileOptions
) -> dict[str, Any]:
    """Nothing: ort-cuda reads the ONNX file."""
    del directory, manifest, shape, how
    return {}


def open_directory(directory: Path, manifest: dict[str, Any], threads: int) -> OrtGpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.registry.Target`."""
    del manifest
    require()
    return OrtGpuEngine(directory / ONNX, threads=threads)
