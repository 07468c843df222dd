"""Whether `ort-tensorrt-rtx` builds on this machine, and whether it runs, found out by trying."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.ort.gpu import ONNX
from qdeploy.deploy.targets.ort_tensorrt_rtx.engine import compile_directory, open_directory, wrap
from qdeploy.deploy.targets.ort_tensorrt_rtx.provider import provider_device
from qdeploy.deploy.targets.tensorrt_rtx.check import built_and
from qdeploy.deploy.trial import (
    BUILD,
    DRIVER,
    FEEDS,
    FIELDS,
    TRACE_NAMES,
    only,
    save_gemm,
    tried_on_gpu,
)
from qdeploy.errors import TargetError


def diagnose(install: str) -> Health:
    """Build a plan of one GEMM, look for INT8 in its layers, and run it in ONNX Runtime.

    Args:
        install: what to type where it does not work.
    """
    return built_and(lambda _: tried(install), install)


def tried(install: str) -> Health:
    """Whether the provider runs a quantized GEMM, or why it does not."""
    version = f"onnxruntime {ort.__version__}"
    try:
        provider_device()
    except TargetError as error:
        detail, _, command = str(error).partition(" Type: ")
        return Health(False, f"{version}, but {detail}", f"Type: {command}" if command else DRIVER)
    return tried_on_gpu(version, attempt, install)


def attempt(folder: Path) -> KernelTime:
    """The kernel of one quantized GEMM that ran."""
    save_gemm(folder / ONNX)
    built = compile_directory(folder, *BUILD)
    wrap(folder)
    engine = open_directory(folder, {**FIELDS, **built}, threads=1)
    return only(engine.trace_gemms(TRACE_NAMES, FEEDS, 1).gemms["gemm"])
