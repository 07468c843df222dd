"""One quantized GEMM, tried on a target: what `doctor` calls a proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.deploy.cuda import device
from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.options import CompileOptions
from qdeploy.errors import TargetError
from qdeploy.files.scratch import scratch
from qdeploy.schemas.manifest import EngineFields

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir as ir

SHAPE = _ROWS, _CHANNELS = (256, 512)  # large enough for a GEMM that is worth an INT8 kernel
TRACE_NAMES = {"gemm": [TraceName("weight", "gemm")]}
DRIVER = "Install an NVIDIA driver; `nvidia-smi` shows whether there is one."


def tried_in_provider(provider: str, attempt: Callable[[Path], KernelTime], remedy: str) -> Health:
    try:
        import onnxruntime
    except ImportError as error:
        return Health(False, f"onnxruntime cannot be imported: {error}.", remedy)
    version = f"onnxruntime {onnxruntime.__version__}"
    if provider not in onnxruntime.get_available_providers():
        return Health(False, f"{version} is built without {provider}.", remedy)
    return tried_on_gpu(version, attempt, remedy)


def tried_on_gpu(version: str, attempt: Callable[[Path], KernelTime], remedy: str) -> Health:
    """What the package of this version makes of a quantized GEMM on the GPU that is here."""
    try:
        version = f"{version}, {device()['name']}"
    except TargetError as error:
        return Health(False, f"{version}, but {error}", DRIVER)
    try:
        with scratch("doctor") as folder:
            kernel = attempt(folder)
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"{version}, but a quantized GEMM did not run: {error}", remedy)
    if not kernel.int8:
        reason = f"{kernel.kernel}: {kernel.fallback_reason}"
        return Health(False, f"{version} ran a quantized GEMM in float ({reason}).", remedy)
    return Health(True, f"{version}, INT8 kernel {kernel.kernel}.")


def only(kernels: Sequence[KernelTime]) -> KernelTime:
    if not kernels:
        raise TargetError("no kernel of it was found")
    return kernels[0]


FEEDS = {"x": np.ones(SHAPE, np.float32)}
FIELDS: EngineFields = {  # as `build` has them of an engine
    "labels": [],
    "task": "sequence-classification",
    "max_length": _CHANNELS,
    "pad_token_id": 0,
    "inputs": ["x"],
    "outputs": ["y"],
    "source": {"path": "gemm", "sha256": ""},
    "target": "",
    "strategy": "w8a8",
    "scope": "gemm",
    "opt_shape": list(SHAPE),
}
BUILD = (FIELDS, SHAPE, CompileOptions(min_shape="256x512", max_shape="256x512"))


def quantized_gemm(path: Path) -> None:
    """Write uint8 [1, 2, 8] × int8 [8, 4] as Q/DQ: the form that runs in INT8 (docs/targets.md).

    The file is kept, so that a machine without onnx-ir can be diagnosed; a test makes it anew.
    """
    path.write_bytes(resources.files("qdeploy.deploy").joinpath("gemm.onnx").read_bytes())


def save_gemm(path: Path, *, integer: bool = False) -> None:
    """Write `half_gemm`."""
    import onnx_ir as ir  # which a machine that runs engines does without

    ir.save(half_gemm(integer=integer), path)


def half_gemm(*, integer: bool = False) -> ir.Model:
    """FP32 [256, 512] × int8 [512, 512] in a target's form: Q/DQ in FP16, or MatMulInteger."""
    import onnx_ir as ir

    x = ir.Input("x", shape=ir.Shape(SHAPE), type=ir.TensorType(ir.DataType.FLOAT))
    stored: list[ir.Value] = []

    def constant(name: str, value: npt.ArrayLike) -> ir.Value:
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
    y.name, y.shape = "y", ir.Shape(SHAPE)
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x], [y], nodes=[*nodes, last], initializers=stored, opset_imports={"": 21}, name="gemm"
    )
    return ir.Model(graph, ir_version=10)
