"""Whether `ort-cuda` works on this machine, found out by trying."""

from __future__ import annotations

from pathlib import Path

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.trial import FEEDS, FIELDS, TRACE_NAMES, only, save_gemm, tried_in_provider


def diagnose(install: str) -> Health:
    """Run MatMulInteger, and see that the CUDA provider took it.

    Args:
        install: what to type where it does not work.
    """
    return tried_in_provider("CUDAExecutionProvider", attempt, install)


def attempt(folder: Path) -> KernelTime:
    """The kernel of one quantized GEMM."""
    from qdeploy.deploy.ort.gpu import ONNX
    from qdeploy.deploy.targets.ort_cuda.engine import open_directory

    save_gemm(folder / ONNX, integer=True)
    engine = open_directory(folder, FIELDS, threads=1)
    return only(engine.trace_gemms(TRACE_NAMES, FEEDS, 1).gemms["gemm"])
