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
from qdeploy.deploy.rules import PRODUCTS, TRANSPARENT
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.graph.constants import constant, constant_tensor
from qdeploy.graph.products import Product, find_products
from qdeploy.machine.processor import CALLED, instruction_set
from qdeploy.schemas.certificate import Processors, SaturatingGemm
from qdeploy.types import Array

_BACK = "DequantizeLinear"
_SECOND = {  # the operand that is to be uint8, where both are computed
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}


@dataclass(frozen=True)
class PairSums:
    """The pairs of one product.

    Attributes:
        name: of the product.
        largest: sum of a pair of codes of one sign, its magnitude; None where the codes are not
            known, as both operands are computed, and nothing can be proved.
        over: columns in which a pair adds up to more than `PAIR_LIMIT`.
        columns: of the product; 0 where they are not known.
        integer: whether its operator multiplies integers, whatever runs it.
    """

    name: str
    largest: int | None
    over: int
    columns: int
    integer: bool = True

    @property
    def fits(self) -> bool:
        """Whether no pair can saturate."""
        return self.largest is not None and self.largest <= PAIR_LIMIT


def pair_sums(model: ir.Model) -> list[PairSums]:
    """The pairs of every product with an operand of int8 that its input is multiplied with.

    Args:
        model: as an engine has it; of anybody's file what `rules.prepared` gives.
    """
    products = find_products(model)
    stored = [found for product in products for found in _stored(product)]
    judged = {
        product.node
        for product in products
        if _SECOND.get(product.node.op_type, 1) in product.constants
    }
    return stored + list(_computed(model.graph, judged))


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


def _stored(product: Product) -> Iterator[PairSums]:
    """The pairs of each constant operand of int8."""
    for at in product.constants:
        value = product.node.inputs[at]
        if not _holds_int8(value):
            continue
        weight = weight_of(product) if at == product.constants[0] else None
        codes = constant(value) if weight is None else weight.codes
        if codes is None or codes.dtype != np.int8:  # computed: nothing is known of its codes
            yield _unproved(product.node)
            continue
        upright = None if weight is None else _as_multiplied(product, codes)
        if upright is None:  # in whatever order they are multiplied
            magnitudes = np.sort(np.abs(codes.astype(np.int32)).ravel())
            largest, over, columns = int(magnitudes[-2:].sum()), 0, 0
        else:
            peaks = pair_peak(upright)
            largest, columns = int(peaks.max(initial=0)), len(peaks)
            over = int((peaks > PAIR_LIMIT).sum())
        yield PairSums(product.name, largest, over, columns, _integer(product.node))


def _holds_int8(value: ir.Value | None) -> bool:
    """Whether a constant operand is of int8, or made of such codes."""
    if value is None:
        return False
    tensor, node = constant_tensor(value), value.producer()
    if ir.DataType.INT8 in (value.dtype, None if tensor is None else tensor.dtype):
        return True
    if node is None:
        return False
    if node.op_type == _BACK:
        return _holds_int8(node.inputs[0])
    if node.op_type == "QuantizeLinear":
        return not _unsigned(value)
    return node.op_type in TRANSPARENT and any(map(_holds_int8, node.inputs))


def _integer(node: ir.Node) -> bool:
    return node.op_type not in PRODUCTS


def _unproved(node: ir.Node) -> PairSums:
    return PairSums(str(node.name or node.outputs[0].name), None, 0, 0, _integer(node))


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
    while node is not None and node.op_type in TRANSPARENT and node.inputs:
        codes = node.inputs[0]
        node = None if codes is None else codes.producer()
    if node is not None and node.op_type == "QuantizeLinear":
        return _is_uint8(node.inputs[2]) if len(node.inputs) > 2 else True
    if node is not None and node.op_type == "DynamicQuantizeLinear":
        return True
    return codes is not None and _is_uint8(codes)


def _is_uint8(value: ir.Value | None) -> bool:
    """Whether a value is of uint8, as a zero point is that is left out."""
    if value is None:
        return True
    tensor = constant_tensor(value)
    return ir.DataType.UINT8 in (value.dtype, None if tensor is None else tensor.dtype)


def _computed(graph: ir.Graph, judged: Container[ir.Node]) -> Iterator[PairSums]:
    """Products whose second operand is computed in 8 bits, as of attention.

    Args:
        judged: nodes whose second operand is constant.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node in judged or node.op_type not in _SECOND:
            continue
        at = _SECOND[node.op_type]
        second = node.inputs[at]
        if at == 3 and _is_uint8(node.inputs[at + 2]):  # its zero point is of its type
            continue
        if node.op_type == "MatMul":
            sources = [None if value is None else value.producer() for value in node.inputs]
            if not all(source is not None and source.op_type == _BACK for source in sources):
                continue
            second = None if sources[1] is None else sources[1].inputs[0]
        if not _unsigned(second):
            yield _unproved(node)
