"""Whether `tensorrt` works on this machine, found out by trying."""

from __future__ import annotations

from pathlib import Path

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.targets.tensorrt.api import TENSORRT
from qdeploy.deploy.targets.tensorrt.directory import ONNX, compile_directory, open_directory
from qdeploy.deploy.trial import BUILD, FEEDS, FIELDS, TRACE_NAMES, only, save_gemm, tried_on_gpu
from qdeploy.errors import TargetError


def diagnose(install: str) -> Health:
    """Build a strongly typed plan of one GEMM, run it, and look for INT8 in its layers.

    Args:
        install: what to type where it does not work.
    """
    try:
        version = f"tensorrt {TENSORRT.package().__version__}"
    except TargetError as error:
        return Health(False, str(error).removesuffix(f" {install}"), install)
    return tried_on_gpu(version, attempt, install)


def attempt(folder: Path) -> KernelTime:
    """The kernel of one quantized GEMM."""
    save_gemm(folder / ONNX)
    compile_directory(folder, *BUILD)
    engine = open_directory(folder, FIELDS, threads=1)
    return only(engine.trace_gemms(TRACE_NAMES, FEEDS, 1).gemms["gemm"])
