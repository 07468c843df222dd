"""Which targets work on this machine, found out by trying, and the remedy for the others."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.deploy.doctor_cpu import cpu_features
from qdeploy.deploy.doctor_gpu import check_ort_cuda, check_ort_tensorrt, check_tensorrt, gpu
from qdeploy.deploy.health import Health
from qdeploy.files.artifact import package_versions
from qdeploy.files.scratch import scratch
from qdeploy.machine.free_memory import memory
from qdeploy.machine.remedies import install_command, uninstall_command
from qdeploy.machine.telemetry import without_openvino_reports
from qdeploy.onnx_file.messages import read_structure

_INT8_KERNEL = "MatMulIntegerToFloat"


def diagnose() -> dict[str, Any]:
    """Try every target that this version has.

    Returns:
        `targets` (name → works, detail, remedy), `cpu` (feature → yes or no), `memory_mb` (total,
        usable), `gpu` (what it is, or why there is none), `python`, `versions` of the packages and
        `notes` about installations that break others.
    """
    return {
        "targets": {name: asdict(check()) for name, check in CHECKS.items()},
        "cpu": cpu_features(),
        "memory_mb": memory(),
        "gpu": gpu(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "notes": _notes(),
    }


def check_ort_cpu() -> Health:
    """Run one quantized GEMM in ONNX Runtime's CPU provider and see which kernel took it."""
    install = f"Type: {install_command('cpu', options='--upgrade')}"
    try:
        import onnxruntime
    except ImportError as error:
        return Health(False, f"onnxruntime cannot be imported: {error}.", install)
    try:
        kernels = _kernels_that_ran(onnxruntime)
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"A quantized GEMM did not run: {error}", install)
    version = f"onnxruntime {onnxruntime.__version__}"
    if _INT8_KERNEL not in kernels:
        return Health(False, f"{version} ran a quantized GEMM in float ({kernels}).", install)
    return Health(True, f"{version}, INT8 kernel {_INT8_KERNEL}.")


def check_openvino() -> Health:
    """Compile one quantized GEMM in OpenVINO's CPU plugin and see in which precision it runs."""
    install = f"Type: {install_command('openvino', options='--upgrade')}"
    try:
        with without_openvino_reports():
            import openvino

        from qdeploy.deploy.lowering.lowered import Mark
        from qdeploy.deploy.targets.openvino.engine import OpenVinoEngine

        version = f"openvino {openvino.__version__.split('-')[0]}"
    except Exception as error:  # a broken installation raises anything
        return Health(False, f"openvino cannot be imported: {error}.", install)
    try:
        with scratch("doctor") as folder:
            path = folder / "gemm.onnx"
            _quantized_gemm(path)
            engine = OpenVinoEngine(path, threads=1)
            ran = engine.witness(
                {"gemm": [Mark("weight", "gemm")]}, {"x": np.ones((1, 2, 8), np.float32)}
            )
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"A quantized GEMM did not run: {error}", install)
    kernels = ran.gemms["gemm"]
    if not kernels or not kernels[0].int8:
        names = [kernel.kernel for kernel in kernels] or "no kernel found"
        return Health(False, f"{version} ran a quantized GEMM in float ({names}).", install)
    return Health(True, f"{version}, INT8 kernel {kernels[0].kernel}.")


# One entry per target that exists; a test compares the names with those of `build --target`.
CHECKS: dict[str, Callable[[], Health]] = {
    "ort-cpu": check_ort_cpu,
    "openvino": check_openvino,
    "ort-cuda": check_ort_cuda,
    "ort-tensorrt": check_ort_tensorrt,
    "tensorrt": check_tensorrt,
}


def _kernels_that_ran(onnxruntime: Any) -> list[str]:
    """Operator types of a one-GEMM Q/DQ graph after ONNX Runtime optimized and ran it."""
    with scratch("doctor") as folder:
        source, optimized = folder / "gemm.onnx", folder / "optimized.onnx"
        _quantized_gemm(source)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that the optimized file suits this machine only
        session = onnxruntime.InferenceSession(
            str(source), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, {"x": np.ones((1, 2, 8), np.float32)})
        graph = read_structure(optimized.read_bytes()).graph
        return [] if graph is None else [node.op_type for node in graph.nodes]


def _quantized_gemm(path: Path) -> None:
    """Write uint8 [1, 2, 8] × int8 [8, 4] as Q/DQ: the form that runs in INT8 (docs/targets.md).

    The file is kept, so that a machine without onnx-ir can be diagnosed; a test makes it anew.
    """
    path.write_bytes(resources.files("qdeploy.deploy").joinpath("gemm.onnx").read_bytes())


def _notes() -> list[str]:
    """Installed packages that are known to break others."""
    notes = []
    if _installed("onnxruntime-tools"):
        notes.append(
            "onnxruntime-tools is installed. It is dead and breaks onnxruntime.quantization and "
            f"onnxruntime.transformers. Type: {uninstall_command('onnxruntime-tools')}"
        )
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        notes.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. "
            "Uninstall both, then install one."
        )
    return notes


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
