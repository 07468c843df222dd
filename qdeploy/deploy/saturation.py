"""Can the INT8 products of a graph saturate on processors that add their pairs in 16 bits?

It is proved from the codes that are stored, whatever wrote them: a pair of neighbours along K may
meet activations of 255, so 255 · |w₁ + w₂| must be at most 32,767 for weights of one sign
(`qdeploy.calibrate.affine.pair_peak`). Weights of uint8 are multiplied in 16 bits by ONNX Runtime
and added in 32, and cannot saturate there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import PAIR_LIMIT, pair_peak
from qdeploy.deploy.lowering.lowered import Widened
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.graph.constants import constant
from qdeploy.graph.products import Product, find_products
from qdeploy.machine.processor import CALLED, instruction_set
from qdeploy.schemas.certificate import Processors, SaturatingGemm
from qdeploy.types import Array

_BACK = "DequantizeLinear"
_MULTIPLY = ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul")


@dataclass(frozen=True)
class PairSums:
    """The pairs of one product.

    Attributes:
        name: of the product.
        largest: sum of a pair of codes of one sign, its magnitude; None where the codes are not
            known, as both operands are computed, and nothing can be proved.
        over: columns in which a pair adds up to more than `PAIR_LIMIT`.
        columns: of the product; 0 where they are not known.
    """

    name: str
    largest: int | None
    over: int
    columns: int

    @property
    def fits(self) -> bool:
        """Whether no pair can saturate."""
        return self.largest is not None and self.largest <= PAIR_LIMIT


def pair_sums(model: ir.Model) -> list[PairSums]:
    """The pairs of every product that is stored in int8, or whose operands both are computed so.

    Args:
        model: as an engine or anybody's file has it.
    """
    products = find_products(model)
    signed = {
        str(value.name)
        for value in model.graph.initializers.values()
        if value.dtype == ir.DataType.INT8
    }
    stored = [found for product in products if (found := _stored(product, signed)) is not None]
    return stored + list(_both_computed(model.graph, {product.node for product in products}))


def processors_of(sums: Iterable[PairSums], widened: Iterable[Widened] = ()) -> Processors:
    """On which processors the numbers of a graph hold, for a certificate.

    Args:
        sums: of `pair_sums`.
        widened: of each of its GEMMs, where a lowering made their pairs fit.
    """
    every = list(sums)
    bad: list[SaturatingGemm] = [
        {"gemm": one.name, "largest_pair": one.largest, "columns_over": one.over}
        for one in every
        if not one.fits
    ]
    largest = max((one.largest for one in every if one.largest is not None), default=0)
    here = instruction_set()
    found: Processors = {
        "made_on": here,
        "proved": not bad,
        "products": len(every),
        "largest_pair": largest,
        "pair_limit": PAIR_LIMIT,
        "saturating": bad,
        "summary": _summary(bad, len(every), here),
    }
    wider = sum(widened, Widened())
    if wider.columns:
        found["widened"] = wider.to_json()
    return found


def _summary(bad: list[SaturatingGemm], products: int, here: str) -> str:
    if not products:
        return "no product with int8 weights: nothing to saturate"
    if not bad:
        return (
            f"the same INT8 sums on every processor: no pair of weights can saturate in 16 bits "
            f"({products} products)"
        )
    return (
        f"{len(bad)} of {products} INT8 products can saturate on processors without VNNI (AVX2, "
        f"the first AVX-512): made on one with {CALLED.get(here, here)}"
    )


def _stored(product: Product, signed: Container[str]) -> PairSums | None:
    """The pairs of a stored weight; None where it is not of int8.

    Args:
        product: of a graph.
        signed: its initializers of int8.
    """
    weight = weight_of(product)
    if weight is None:  # computed from several constants: nothing is known of its codes
        unknown = any(name in signed for name in product.weights)
        return PairSums(product.name, None, 0, 0) if unknown else None
    if weight.codes.dtype != np.int8:
        return None
    codes = _as_multiplied(product, weight.codes)
    if codes is None:  # in whatever order they are multiplied
        magnitudes = np.sort(np.abs(weight.codes.astype(np.int32)).ravel())
        largest = int(magnitudes[-2:].sum())
        return PairSums(product.name, largest, int(largest > PAIR_LIMIT), 0)
    peaks = pair_peak(codes)
    over = int((peaks > PAIR_LIMIT).sum())
    return PairSums(product.name, int(peaks.max(initial=0)), over, len(peaks))


def _as_multiplied(product: Product, codes: Array) -> Array | None:
    """Codes as [K, N]; None where the order in which they are multiplied is not known."""
    node, at = product.node, product.constants[0]
    if at == 0 or "Conv" in node.op_type or node.op_type in ("LSTM", "GRU", "RNN"):
        return None
    turns: list[list[int]] = []
    value = node.inputs[at]
    while value is not None and constant(value) is None:
        producer = value.producer()
        if producer is None or producer.op_type not in ("Transpose", "Identity", _BACK):
            return None
        if producer.op_type == _BACK:  # of the codes
            break
        if producer.op_type == "Transpose":
            turns.append(list(producer.attributes.get_ints("perm", ())))
        value = producer.inputs[0]
    for perm in reversed(turns):
        codes = np.transpose(codes, perm or None)
    if node.attributes.get_int("transB", 0) == 1:
        codes = np.swapaxes(codes, -1, -2)
    if codes.ndim < 2:
        return None
    # a matrix for each of a batch: side by side
    return np.moveaxis(codes, -2, 0).reshape(codes.shape[-2], -1)


def _unsigned(codes: ir.Value | None) -> bool:
    """Whether computed codes are known to be uint8."""
    node = None if codes is None else codes.producer()
    if node is not None and node.op_type == "QuantizeLinear":
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        return zero is None or zero.dtype == ir.DataType.UINT8
    if node is not None and node.op_type == "DynamicQuantizeLinear":
        return True
    return codes is not None and codes.dtype == ir.DataType.UINT8


def _both_computed(graph: ir.Graph, stored: Container[ir.Node]) -> Iterator[PairSums]:
    """Products of two tensors that both are computed in 8 bits, as of attention."""
    for node in graph:
        if node in stored or node.op_type not in _MULTIPLY:
            continue
        at = 3 if node.op_type == "QLinearMatMul" else 1
        second = node.inputs[at]
        if node.op_type == "MatMul":
            sources = [None if value is None else value.producer() for value in node.inputs]
            if not all(source is not None and source.op_type == _BACK for source in sources):
                continue
            second = None if sources[1] is None else sources[1].inputs[0]
        if not _unsigned(second):
            yield PairSums(str(node.name or node.outputs[0].name), None, 0, 0)
