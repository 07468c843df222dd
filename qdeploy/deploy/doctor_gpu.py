"""Which GPU targets work on this machine: each runs one quantized GEMM, or says why not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qdeploy.deploy import tensorrt_inspector as inspector
from qdeploy.deploy.cuda import device
from qdeploy.deploy.health import Health
from qdeploy.deploy.tensorrt_api import INSTALL, Opened, Settings, build_plan, package
from qdeploy.errors import TargetError

_SHAPE = (1, 32, 64)


def gpu() -> dict[str, Any] | None:
    """The first GPU as `qdeploy.deploy.cuda.device` tells of it; None without one."""
    try:
        return device()
    except TargetError:
        return None


def check_tensorrt() -> Health:
    """Build a strongly typed plan of one GEMM, and look for INT8 in its layers."""
    try:
        version = f"tensorrt {package().__version__}"
    except TargetError as error:
        return Health(False, str(error).removesuffix(f" {INSTALL}"), INSTALL)
    try:
        found = device()
    except TargetError as error:
        return Health(False, f"{version}, but {error}", "See that an NVIDIA driver is installed.")
    return _tried(f"{version}, {found['name']}", _int8_in_a_plan, INSTALL)


def check_ort_cuda() -> Health:
    """Run MatMulInteger, and see that the CUDA provider took it."""
    return _of_ort("CUDAExecutionProvider", "ort-cuda")


def check_ort_tensorrt() -> Health:
    """Run a Q/DQ GEMM, and see that the TensorRT provider took it."""
    return _of_ort("TensorrtExecutionProvider", "ort-tensorrt")


def _of_ort(provider: str, target: str) -> Health:
    remedy = "Type: pip install 'qdeploy[gpu]' on a machine with an NVIDIA GPU"
    try:
        import onnxruntime
    except ImportError as error:
        return Health(False, f"onnxruntime cannot be imported: {error}.", remedy)
    version = f"onnxruntime {onnxruntime.__version__}"
    if provider not in onnxruntime.get_available_providers():
        return Health(False, f"{version} is built without {provider}.", remedy)
    return _tried(version, lambda: _ran_on(provider, target), remedy)


def _tried(version: str, attempt: Callable[[], str], remedy: str) -> Health:
    try:
        what = attempt()
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"{version}, but a quantized GEMM did not run: {error}", remedy)
    return Health(True, f"{version}, {what}.")


def _int8_in_a_plan() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gemm.onnx"
        ir.save(half_gemm(), path)
        plan = build_plan(path, Settings({"x": (_SHAPE, _SHAPE, _SHAPE)})).plan
    layers = [layer for layer in inspector.layers(Opened(plan).information()) if layer.int8]
    if not layers:
        raise TargetError("TensorRT computed it in float")
    return f"INT8 kernel {layers[0].kind}"


def _ran_on(provider: str, target: str) -> str:
    from qdeploy.deploy.ort_gpu_engine import OrtGpuEngine

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gemm.onnx"
        ir.save(half_gemm(integer=target == "ort-cuda"), path)
        chain: list[tuple[str, dict[str, Any]]] = [(provider, {}), ("CPUExecutionProvider", {})]
        engine = OrtGpuEngine(path, chain, threads=1)
        engine.run({"x": np.ones(_SHAPE, np.float32)})
    return f"provider {provider}"


def half_gemm(*, integer: bool = False) -> ir.Model:
    """FP32 [1, 32, 64] × int8 [64, 64] in the form of a target: Q/DQ in FP16, or MatMulInteger."""
    rows, inner, outer = _SHAPE[1], _SHAPE[2], _SHAPE[2]
    x = ir.Input("x", shape=ir.Shape(_SHAPE), type=ir.TensorType(ir.DataType.FLOAT))
    stored: list[ir.Value] = []

    def constant(name: str, value: Any) -> ir.Value:
        tensor = ir.tensor(value, name=name)
        kind = ir.TensorType(tensor.dtype)
        made = ir.Value(name=name, const_value=tensor, shape=ir.Shape(np.shape(value)), type=kind)
        stored.append(made)
        return made

    kind = np.float32 if integer else np.float16
    cast = ir.node("Cast", [x], {"to": int(ir.DataType.FLOAT16)}, name="half")
    source = x if integer else cast.outputs[0]
    pair = [constant("scale", kind(0.1)), constant("zero", np.int8(0))]
    codes = ir.node("QuantizeLinear", [source, *pair], name="quantize")
    weight = constant("weight", np.ones((inner, outer), np.int8))
    if integer:
        gemm = ir.node("MatMulInteger", [codes.outputs[0], weight], name="gemm")
        nodes = [codes, gemm]
    else:
        steps = constant("weight_scale", np.full(outer, 0.1, np.float16))
        values = ir.node("DequantizeLinear", [codes.outputs[0], *pair], name="dequantize")
        weights = ir.node("DequantizeLinear", [weight, steps], {"axis": 1}, name="weights")
        gemm = ir.node("MatMul", [values.outputs[0], weights.outputs[0]], name="gemm")
        nodes = [cast, codes, values, weights, gemm]
    last = ir.node("Cast", [gemm.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name="float")
    y = last.outputs[0]
    y.name, y.shape = "y", ir.Shape((_SHAPE[0], rows, outer))
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x], [y], nodes=[*nodes, last], initializers=stored, opset_imports={"": 21}, name="gemm"
    )
    return ir.Model(graph, ir_version=10)
