"""What TensorRT's engine inspector tells of the layers, as kernels of a certificate.

Two forms of its JSON are read: TensorRT 10's, whose engine lists "Bindings", and 11's, which calls
them "I/O Tensors". Layers are those of the built engine: fused, renamed, and with the names of the
ONNX nodes that they stand for in "Metadata" (detailed verbosity) or in their own names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qdeploy.deploy.engine import KernelTime
from qdeploy.errors import ModelError

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_INT8 = ("int8", "i8")
_TYPE_KEYS = ("Format/Datatype", "DataType", "Datatype", "Format")  # of 10 first, then of 11
# Layer types that multiply; Myelin's fused regions are "kgen" or "Myelin" and need their tactic.
_PRODUCTS = ("gemm", "matrixmultiply", "matrix_multiply", "convolution", "casktgemm", "caskgemm")


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: of the layer, as the profiler reports it too.
        kind: its type ("gemm", "kgen", …) and tactic.
        nodes: names of the ONNX nodes that it stands for.
        inputs: types of what it reads ("Int8", "Half", …).
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    tactic: str = ""

    @property
    def int8(self) -> bool:
        """Whether it reads two int8 operands, or its kernel says that it multiplies int8."""
        operands = [kind for kind in self.inputs if _says_int8(kind)]
        return len(operands) >= 2 or (len(operands) == 1 and _tactic_int8(self.tactic))


def layers(text: str) -> list[Layer]:
    """Layers of an engine from the inspector's JSON.

    Raises:
        ModelError: it is no such JSON, or only lists names (verbosity below detailed).
    """
    try:
        found = json.loads(text)
        listed = found["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"TensorRT's engine inspector gave no layers: {error}.") from error
    if listed and all(isinstance(entry, str) for entry in listed):
        raise ModelError(
            "TensorRT's engine inspector gives names only: the engine was built without detailed "
            "verbosity. Build it again with qdeploy."
        )
    return [_layer(entry) for entry in listed]


def tensors(text: str) -> list[str]:
    """Names of the engine's inputs and outputs, from either form."""
    found = json.loads(text)
    listed = found.get("I/O Tensors", found.get("Bindings", []))
    return [entry if isinstance(entry, str) else str(entry["Name"]) for entry in listed]


def kernels(found: Sequence[Layer], times: Mapping[str, Sequence[float]]) -> list[KernelTime]:
    """One kernel per layer.

    Args:
        times: by layer name, ms of each profiled run; empty where none was.
    """
    return [_kernel(layer, times.get(layer.name, ())) for layer in found]


def of_gemms(
    found: Sequence[Layer], ran: Sequence[KernelTime], gemms: Mapping[str, Sequence[str]]
) -> dict[str, list[KernelTime]]:
    """The kernels that stand for each GEMM; none where one of its products is not found.

    Args:
        found, ran: layers and their kernels, in one order.
        gemms: GEMM name → names of its products in the ONNX file.
    """
    by_node: dict[str, list[KernelTime]] = {}
    for layer, kernel in zip(found, ran, strict=True):
        for node in layer.nodes:
            by_node.setdefault(node, []).append(kernel)
    result = {}
    for gemm, marks in gemms.items():
        parts = [_products(by_node.get(mark, [])) for mark in marks]
        result[gemm] = [kernel for part in parts for kernel in part] if all(parts) else []
    return result


def _layer(entry: Mapping[str, Any]) -> Layer:
    name = str(entry.get("Name", ""))
    metadata = str(entry.get("Metadata", ""))
    nodes = _ONNX_LAYER.findall(metadata)
    if not nodes:  # names of fused layers are joined with " + "; Myelin wraps them in braces
        inner = name.split("{ForeignNode[")[-1].rstrip("]}")
        nodes = [part.strip() for part in re.split(r"\s\+\s|\.\.\.", inner) if part.strip()]
    tactic = str(entry.get("TacticName", entry.get("TacticValue", "")))
    kind = str(entry.get("LayerType", "?"))
    return Layer(name, f"{kind} {tactic}".strip(), tuple(nodes), _types(entry), tactic)


def _types(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Types of a layer's inputs, and of its weights where they are told apart."""
    found = []
    for value in entry.get("Inputs", ()):
        if isinstance(value, Mapping):
            found.append(next((str(value[key]) for key in _TYPE_KEYS if key in value), "?"))
    weights = entry.get("Weights")
    if isinstance(weights, Mapping) and weights.get("Type"):
        found.append(str(weights["Type"]))
    return tuple(found)


def _says_int8(text: str) -> bool:
    words = re.split(r"[^a-z0-9]+", text.lower())
    return any(word in _INT8 for word in words)


def _tactic_int8(tactic: str) -> bool:
    """Whether a kernel's name says that it sums int8 products: "…_i8i32_…", "…imma…"."""
    return any(word in tactic.lower() for word in ("i8i32", "imma", "s8s8"))


def _kernel(layer: Layer, times: Sequence[float]) -> KernelTime:
    ms = sum(times) / len(times) if times else 0.0
    fault = "" if layer.int8 else f"TensorRT reads {', '.join(layer.inputs) or 'unknown types'}"
    return KernelTime(layer.name, layer.kind, ms, 1, int8=layer.int8, fault=fault)


def _products(found: Sequence[KernelTime]) -> list[KernelTime]:
    """Of the kernels that stand for a product, those that multiply: all where none says so."""
    multiplying = [k for k in found if any(word in k.kernel.lower() for word in _PRODUCTS)]
    return multiplying or list(found)
