"""Whether `ort-cpu` works on this machine, found out by trying."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from qdeploy.deploy.health import Health
from qdeploy.deploy.trial import quantized_gemm
from qdeploy.files.scratch import scratch
from qdeploy.onnx_file.messages import read_structure

_INT8_KERNEL = "MatMulIntegerToFloat"


def diagnose(install: str) -> Health:
    """Run one quantized GEMM in ONNX Runtime's CPU provider and see which kernel took it.

    Args:
        install: what to type where it does not work.
    """
    try:
        import onnxruntime
    except ImportError as error:
        return Health(False, f"onnxruntime cannot be imported: {error}.", install)
    try:
        kernels = kernels_that_ran(onnxruntime)
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"A quantized GEMM did not run: {error}", install)
    version = f"onnxruntime {onnxruntime.__version__}"
    if _INT8_KERNEL not in kernels:
        return Health(False, f"{version} ran a quantized GEMM in float ({kernels}).", install)
    return Health(True, f"{version}, INT8 kernel {_INT8_KERNEL}.")


def kernels_that_ran(onnxruntime: ModuleType) -> list[str]:
    """Operator types of a one-GEMM Q/DQ graph after ONNX Runtime optimized and ran it."""
    with scratch("doctor") as folder:
        source, optimized = folder / "gemm.onnx", folder / "optimized.onnx"
        quantized_gemm(source)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that the optimized file suits this machine only
        session = onnxruntime.InferenceSession(
            str(source), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, {"x": np.ones((1, 2, 8), np.float32)})
        graph = read_structure(optimized.read_bytes()).graph
        return [] if graph is None else [node.op_type for node in graph.nodes]
