"""What TensorRT's engine inspector tells of the layers, as kernels of a certificate.

Two forms of its JSON are read: TensorRT 10's, whose tensors have one "Format/Datatype", and 11's,
which tells "Format" and "DataType" apart (and calls the engine's "Bindings" "I/O Tensors", which
nothing here needs). Layers are those of the built engine: fused, renamed, and with the names of
the ONNX nodes that they stand for in "Metadata" (detailed verbosity).

A layer is called INT8 only where its kernel's name says that it sums products of int8, or where it
is a plain product of two int8 tensors. One that reads int8 and does not say what it multiplies is
not: the certificate then says so. The same holds of FP8, which is never called INT8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.errors import ModelError

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_FUSED_SUFFIX = re.compile(r"(_myl\d+)?(_\d+)?$")  # of names that TensorRT gives fused layers
_TYPE_KEYS = ("Format/Datatype", "DataType", "Datatype", "Format")  # of 10 first, then of 11
# Types of layers that are one product and no more. Others ("fusion", "kgen", "Myelin") hold more,
# and only the name of their kernel ("tactic") tells what.
_PRODUCTS = ("gemm", "matrixmultiply", "matrix_multiply", "convolution", "correlation", "caskgemm")
# In names of kernels: cuBLAS and xmma ("gemm_i8i8_i8i32_f32"), tensor cores ("imma"), CUTLASS
# ("i16832gemm_s8"), and pairs of types ("s8_s8").
_INT8_KERNEL = re.compile(r"i8i32|i8i8|(?<![a-z])imma(?![a-z])|i\d{4,}gemm_s8|s8_?s8|int8_int8")
# What contradicts them: products of floats, and of int8 with floats ("mixed").
_FLOAT_KERNEL = re.compile(
    r"f16f16|f32f32|tf32|e4m3|e5m2|s\d{4,}gemm|mixed|(?<![a-z])[hd]mma(?![a-z])"
)
# The same of FP8: xmma ("gemm_e4m3e4m3_f32", "gemm_e4m3bf16_e4m3f32") and CUTLASS ("e4m3_e4m3").
_FP8_KERNEL = re.compile(r"e4m3_?e4m3|e4m3f32")
_OTHER_KERNEL = re.compile(r"f16f16|tf32|e5m2|i8i8|gemm_s8|mixed|(?<![a-z])[ihd]mma(?![a-z])")
_PRODUCT_KERNEL = re.compile(r"gemm|imma|hmma|fprop|conv(?!ert)")
# Myelin's own: names of operators joined ("__myl_FcAddErfCast"). Fc is a product, ErfCast none.
MYELIN_PRODUCT = re.compile(r"__myl_(?:[A-Z][a-z0-9]*)*?Fc(?![a-z])")
_FUSED_LATER = "runtime_fusion"  # a type of layers of RTX, without a kernel until it is loaded
_ATTENTION = "mha"  # fused attention, which may take the name of a product beside it


class _Entry(TypedDict, total=False):
    """A layer as the inspector tells it, as far as it is read; what is missing is no error."""

    Name: str
    LayerType: str
    Metadata: str
    TacticName: str
    TacticValue: str
    Inputs: Sequence[Mapping[str, object] | str]
    Constants: Sequence[Mapping[str, object] | str]
    Weights: Mapping[str, object] | str


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: of the layer, as the profiler reports it too.
        kind: its type ("gemm", "fusion", "kgen", …).
        tactic: the name of its kernel; empty where it has none.
        nodes: names of the ONNX nodes that it stands for.
        guessed: the nodes are read from the layer's name, where "." is "_" as every other sign is.
        inputs: types of what it reads ("Int8", "Half", …).
        weights: type of its weights, where they are told apart; else empty.
    """

    name: str
    kind: str
    tactic: str
    nodes: tuple[str, ...]
    guessed: bool
    inputs: tuple[str, ...]
    weights: str = ""

    @property
    def multiplies(self) -> bool:
        """Whether it is a product, or a fused layer around one; attention is none."""
        kernel = self.tactic.lower()
        if _ATTENTION in kernel or _ATTENTION in self.name.lower():
            return False
        if MYELIN_PRODUCT.search(self.tactic):
            return True
        myelin = self.tactic.startswith("__myl_")  # names such as "…ConcCast" are no products
        return self._plain or (not myelin and bool(_PRODUCT_KERNEL.search(kernel)))

    @property
    def int8(self) -> bool:
        """Whether it is sure to multiply int8."""
        return self._multiplies_in(_INT8_KERNEL, _FLOAT_KERNEL, _is_int8)

    @property
    def fp8(self) -> bool:
        """Whether it is sure to multiply FP8."""
        return self._multiplies_in(_FP8_KERNEL, _OTHER_KERNEL, _is_fp8)

    @property
    def fallback_reason(self) -> str:
        """Why it is not INT8; empty where it is. Of FP8 where it is not proved."""
        if self.int8:
            return ""
        types = ", ".join(self.inputs) or "unknown types"
        if self.multiplies and not self.fp8:
            for name, known in (("INT8", _is_int8), ("FP8", _is_fp8)):
                if any(map(known, self.inputs)):
                    unproved = f"{self.tactic or self.kind} does not prove {name}"
                    return f"TensorRT reads {types}, and {unproved}"
        return f"TensorRT reads {types} ({self.tactic or self.kind})"

    def _multiplies_in(
        self, says: re.Pattern[str], denies: re.Pattern[str], known: Callable[[str], bool]
    ) -> bool:
        """Whether its kernel's name, or what it reads, proves a type.

        Args:
            says, denies: of names of kernels.
            known: whether a type is that one.
        """
        kernel = self.tactic.lower()
        if not self.multiplies or denies.search(kernel):
            return False
        if says.search(kernel):
            return not self.inputs or any(map(known, self.inputs))
        operands = (*self.inputs[:1], self.weights or "".join(self.inputs[1:2]))
        return self._plain and all(map(known, operands)) and len(operands) == 2

    @property
    def _plain(self) -> bool:
        return any(word in self.kind.lower() for word in _PRODUCTS)


def layers(text: str) -> list[Layer]:
    """Layers of an engine from the inspector's JSON.

    Raises:
        ModelError: it is no such JSON, or only lists names (verbosity below detailed).
    """
    try:
        # not strict: metadata of fused layers are joined by control characters
        listed: list[_Entry | str] = json.loads(text, strict=False)["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"TensorRT's engine inspector gave no layers: {error}.") from error
    if listed and all(isinstance(entry, str) for entry in listed):
        raise ModelError(
            "TensorRT's engine inspector gives names only: the engine was built without detailed "
            "verbosity. Build it again with qdeploy."
        )
    return [_layer(entry) for entry in listed if not isinstance(entry, str)]


def kernels(found: Sequence[Layer], times: Mapping[str, Sequence[float]]) -> list[KernelTime]:
    """One kernel per layer.

    Args:
        times: by layer name, ms of each profiled run; empty where none was.
    """
    return [_kernel(layer, times.get(layer.name, ())) for layer in found]


def of_gemms(
    found: Sequence[Layer], ran: Sequence[KernelTime], gemms: Mapping[str, Sequence[TraceName]]
) -> dict[str, list[KernelTime]]:
    """The kernels that stand for each GEMM; none where one of its products is not found.

    Args:
        found, ran: layers and their kernels, in one order.
        gemms: GEMM name → its trace names, whose nodes are those of the ONNX file.
    """
    named: dict[str, list[tuple[Layer, KernelTime]]] = {}
    guessed: dict[str, list[tuple[Layer, KernelTime]]] = {}
    for pair in zip(found, ran, strict=True):
        for node in pair[0].nodes:
            if pair[0].guessed:
                guessed.setdefault(_plainly(node), []).append(pair)
            else:
                named.setdefault(node, []).append(pair)
    result = {}
    for gemm, trace_names in gemms.items():
        nodes = [TraceName(*trace_name).node for trace_name in trace_names]
        parts = [_standing(named.get(n) or guessed.get(_plainly(n), [])) for n in nodes]
        result[gemm] = [kernel for part in parts for kernel in part] if all(parts) else []
    return result


def _layer(entry: _Entry) -> Layer:
    name, kind = str(entry.get("Name", "")), str(entry.get("LayerType", "?"))
    nodes = _ONNX_LAYER.findall(str(entry.get("Metadata", "")))
    tactic = entry.get("TacticName", entry.get("TacticValue", ""))
    return Layer(
        name,
        kind,
        # what is fused on the device, when the plan is loaded, is told by the layer's own name
        str(tactic) or (name if kind == _FUSED_LATER else ""),
        # what stands behind a bar is the node's own documentation
        tuple(node.split(" | ")[0].strip() for node in nodes) or _nodes_in(name),
        not nodes,
        _types(entry.get("Inputs", ())),
        _weights(entry),
    )


def _weights(entry: _Entry) -> str:
    """Type of a layer's weights: told by itself (10 and 11), or that of its first matrix (RTX)."""
    weights = entry.get("Weights")
    if isinstance(weights, Mapping):
        return str(weights.get("Type", ""))
    shapes = [(c, c["Dimensions"]) for c in entry.get("Constants", ()) if isinstance(c, Mapping)]
    matrices = [c for c, shape in shapes if isinstance(shape, list) and len(shape) > 1]
    return _types(matrices)[0] if matrices else ""


def _nodes_in(name: str) -> tuple[str, ...]:
    """The nodes that the name of a layer without metadata is made of, in braces or joined by +."""
    inner = name.split("{ForeignNode[")[-1].rstrip("]}")
    inner = _FUSED_SUFFIX.sub("", inner) if "_myl" in inner else inner
    return tuple(part.strip() for part in re.split(r"\+|\.\.\.", inner) if part.strip())


def _types(tensors: Sequence[Mapping[str, object] | str]) -> tuple[str, ...]:
    return tuple(
        next((str(value[key]) for key in _TYPE_KEYS if key in value), "?")
        for value in tensors
        if isinstance(value, Mapping)
    )


def _words(kind: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", kind.lower()))


def _is_int8(kind: str) -> bool:
    return bool({"int8", "i8"} & _words(kind))


def _is_fp8(kind: str) -> bool:
    """E4M3, of which engines say FP8 alone; never E5M2."""
    return bool({"fp8", "e4m3"} & _words(kind)) and "e5m2" not in kind.lower()


def _plainly(name: str) -> str:
    """A node's name as it stands in the names of layers."""
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def _kernel(layer: Layer, times: Sequence[float]) -> KernelTime:
    ms = sum(times) / len(times) if times else 0.0
    kind = f"{layer.kind} {layer.tactic}".strip()
    reason = layer.fallback_reason
    return KernelTime(layer.name, kind, ms, 1, layer.int8, reason, fp8=layer.fp8)


def _standing(found: Sequence[tuple[Layer, KernelTime]]) -> list[KernelTime]:
    """Of the kernels that stand for a product those that multiply; all where none says so."""
    multiplying = [kernel for layer, kernel in found if layer.multiplies]
    return multiplying or [kernel for _, kernel in found]
