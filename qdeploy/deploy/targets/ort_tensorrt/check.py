"""Whether `ort-tensorrt` works on this machine, found out by trying."""

from __future__ import annotations

from pathlib import Path

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.trial import (
    BUILD,
    FEEDS,
    FIELDS,
    TRACE_NAMES,
    only,
    save_gemm,
    tried_in_provider,
)


def diagnose(install: str) -> Health:
    """Run the plan of one GEMM in the TensorRT provider, and look for INT8 in its layers.

    Args:
        install: what to type where it does not work.
    """
    return tried_in_provider("TensorrtExecutionProvider", attempt, install)


def attempt(folder: Path) -> KernelTime:
    """The kernel of one quantized GEMM."""
    from qdeploy.deploy.ort.gpu import ONNX
    from qdeploy.deploy.targets.ort_tensorrt.engine import compile_directory, open_directory

    save_gemm(folder / ONNX)
    compile_directory(folder, *BUILD)
    engine = open_directory(folder, FIELDS, threads=1)
    return only(engine.trace_gemms(TRACE_NAMES, FEEDS, 1).gemms["gemm"])
