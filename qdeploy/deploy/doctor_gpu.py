"""Which GPU targets work on this machine: each runs one quantized GEMM, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdeploy.deploy.cuda import device
from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health, both_packages, gpu_package, tensorrt_package
from qdeploy.deploy.lowering.lowered import Mark
from qdeploy.deploy.request import Compilation
from qdeploy.deploy.targets.tensorrt import api as tensorrt_api
from qdeploy.deploy.targets.tensorrt import engine as tensorrt_engine
from qdeploy.errors import TargetError
from qdeploy.files.scratch import scratch

if TYPE_CHECKING:
    import onnx_ir as ir

_SHAPE = _ROWS, _CHANNELS = (256, 512)  # large enough for a GEMM that is worth an INT8 kernel
_MARKS = {"gemm": [Mark("weight", "gemm")]}
_DRIVER = "Install an NVIDIA driver; `nvidia-smi` shows whether there is one."


def gpu() -> dict[str, Any]:
    """{"found": True} and what `qdeploy.deploy.cuda.device` tells, or False and the reason."""
    try:
        return {"found": True} | device()
    except TargetError as error:
        return {"found": False, "reason": str(error)}


def check_tensorrt() -> Health:
    """Build a strongly typed plan of one GEMM, run it, and look for INT8 in its layers."""
    try:
        version = f"tensorrt {tensorrt_api.package().__version__}"
    except TargetError as error:
        install = tensorrt_package()
        return Health(False, str(error).removesuffix(f" {install}"), install)
    return _tried(version, _in_tensorrt, tensorrt_package())


def check_ort_cuda() -> Health:
    """Run MatMulInteger, and see that the CUDA provider took it."""
    return _of_ort("CUDAExecutionProvider", _in_ort_cuda, gpu_package())


def check_ort_tensorrt() -> Health:
    """Run the plan of one GEMM in the TensorRT provider, and look for INT8 in its layers."""
    return _of_ort("TensorrtExecutionProvider", _in_ort_tensorrt, both_packages())


def _of_ort(provider: str, attempt: Callable[[Path], KernelTime], remedy: str) -> Health:
    try:
        import onnxruntime
    except ImportError as error:
        return Health(False, f"onnxruntime cannot be imported: {error}.", remedy)
    version = f"onnxruntime {onnxruntime.__version__}"
    if provider not in onnxruntime.get_available_providers():
        return Health(False, f"{version} is built without {provider}.", remedy)
    return _tried(version, attempt, remedy)


def _tried(version: str, attempt: Callable[[Path], KernelTime], remedy: str) -> Health:
    """What the package of this version makes of a quantized GEMM on the GPU that is here."""
    try:
        version = f"{version}, {device()['name']}"
    except TargetError as error:
        return Health(False, f"{version}, but {error}", _DRIVER)
    try:
        with scratch("doctor") as folder:
            kernel = attempt(folder)
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"{version}, but a quantized GEMM did not run: {error}", remedy)
    if not kernel.int8:
        reason = f"{kernel.kernel}: {kernel.fault}"
        return Health(False, f"{version} ran a quantized GEMM in float ({reason}).", remedy)
    return Health(True, f"{version}, INT8 kernel {kernel.kernel}.")


def _in_tensorrt(folder: Path) -> KernelTime:
    _save(half_gemm(), folder / tensorrt_engine.ONNX)
    tensorrt_engine.compile_directory(folder, *_BUILD)
    engine = tensorrt_engine.open_directory(folder, {}, threads=1)
    return _only(engine.witness(_MARKS, _FEEDS, 1).gemms["gemm"])


def _in_ort_tensorrt(folder: Path) -> KernelTime:
    from qdeploy.deploy.targets.ort_tensorrt import engine as ort_tensorrt_engine

    _save(half_gemm(), folder / tensorrt_engine.ONNX)
    ort_tensorrt_engine.compile_directory(folder, *_BUILD)
    engine = ort_tensorrt_engine.open_directory(folder, {}, threads=1)
    return _only(engine.witness(_MARKS, _FEEDS, 1).gemms["gemm"])


def _in_ort_cuda(folder: Path) -> KernelTime:
    from qdeploy.deploy.targets.ort_cuda.engine import open_directory

    _save(half_gemm(integer=True), folder / tensorrt_engine.ONNX)
    engine = open_directory(folder, {}, threads=1)
    return _only(engine.witness(_MARKS, _FEEDS, 1).gemms["gemm"])


def _save(model: ir.Model, path: Path) -> None:
    import onnx_ir as ir  # which a machine that runs engines does without

    ir.save(model, path)


def _only(kernels: Any) -> KernelTime:
    if not kernels:
        raise TargetError("no kernel of it was found")
    first: KernelTime = kernels[0]
    return first


_FEEDS = {"x": np.ones(_SHAPE, np.float32)}
_BUILD = (
    {"inputs": ["x"], "max_length": _CHANNELS},
    _SHAPE,
    Compilation(least=_SHAPE, largest=_SHAPE),
)


def half_gemm(*, integer: bool = False) -> ir.Model:
    """FP32 [256, 512] × int8 [512, 512] in a target's form: Q/DQ in FP16, or MatMulInteger."""
    import onnx_ir as ir

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
    weight = constant("weight", np.ones((_CHANNELS, _CHANNELS), np.int8))
    if integer:
        gemm = ir.node("MatMulInteger", [codes.outputs[0], weight], name="gemm")
        nodes = [codes, gemm]
    else:
        steps = constant("weight_scale", np.full(_CHANNELS, 0.1, np.float16))
        values = ir.node("DequantizeLinear", [codes.outputs[0], *pair], name="dequantize")
        weights = ir.node("DequantizeLinear", [weight, steps], {"axis": 1}, name="weights")
        gemm = ir.node("MatMul", [values.outputs[0], weights.outputs[0]], name="gemm")
        nodes = [cast, codes, values, weights, gemm]
    last = ir.node("Cast", [gemm.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name="float")
    y = last.outputs[0]
    y.name, y.shape = "y", ir.Shape(_SHAPE)
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x], [y], nodes=[*nodes, last], initializers=stored, opset_imports={"": 21}, name="gemm"
    )
    return ir.Model(graph, ir_version=10)
