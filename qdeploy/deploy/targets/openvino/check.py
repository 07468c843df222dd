"""Whether `openvino` works on this machine, found out by trying."""

from __future__ import annotations

import numpy as np

from qdeploy.deploy.health import Health
from qdeploy.deploy.trial import TRACE_NAMES, quantized_gemm
from qdeploy.files.scratch import scratch
from qdeploy.machine.telemetry import without_openvino_reports


def diagnose(install: str) -> Health:
    """Compile one quantized GEMM in OpenVINO's CPU plugin and see in which precision it runs.

    Args:
        install: what to type where it does not work.
    """
    try:
        with without_openvino_reports():
            import openvino

        from qdeploy.deploy.targets.openvino.engine import OpenVinoEngine

        version = f"openvino {openvino.__version__.split('-')[0]}"
    except Exception as error:  # a broken installation raises anything
        return Health(False, f"openvino cannot be imported: {error}.", install)
    try:
        with scratch("doctor") as folder:
            path = folder / "gemm.onnx"
            quantized_gemm(path)
            engine = OpenVinoEngine(path, threads=1)
            ran = engine.trace_gemms(TRACE_NAMES, {"x": np.ones((1, 2, 8), np.float32)})
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"A quantized GEMM did not run: {error}", install)
    kernels = ran.gemms["gemm"]
    if not kernels or not kernels[0].int8:
        names = [kernel.kernel for kernel in kernels] or "no kernel found"
        return Health(False, f"{version} ran a quantized GEMM in float ({names}).", install)
    return Health(True, f"{version}, INT8 kernel {kernels[0].kernel}.")
