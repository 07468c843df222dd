"""Certify any ONNX file: which of its products ONNX Runtime's CPU provider runs in INT8.

What was meant is read from the file as written: a product whose weight is stored in 8 bits, or
whose operator computes in integers, is planned INT8. What runs is read from the optimized graph.
The two are matched by the numbers of the weight, not by names; where several products have equal
weights, by the tensor that they compute, and then by their order. A product that is not found again
counts as float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from qdeploy.calibrate.plan import FLOAT, INT8
from qdeploy.deploy.certificate import unplanned
from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.ort.kernels import INT8_KERNELS
from qdeploy.deploy.ort.profile import kernel_of, optimized_graph
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.product_flops import any_feeds, count_products
from qdeploy.deploy.stored_weights import StoredWeight, weight_of
from qdeploy.deploy.tally import tally, worded
from qdeploy.graph.products import Product, find_products
from qdeploy.graph.session import reason_of
from qdeploy.schemas.certificate import Int8, PlannedGemm
from qdeploy.types import Array

_REWRITTEN = 8  # nodes behind a product that ONNX Runtime may fuse with it: casts, scales, a bias
_ROUNDING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity")
_SIXTEEN_BITS = (ir.DataType.INT16, ir.DataType.UINT16)


def certify_file(path: Path) -> Int8:
    """The same of an ONNX file that anything may have made; nothing is timed.

    Returns:
        Its "shape" is that of each input that FLOPs were counted on; where the file did not run on
        them, the figures are estimates.

    Raises:
        ModelError: the file does not load in ONNX Runtime.
    """
    optimized = optimized_graph(path)
    feeds = any_feeds(path)
    count = count_products(path, feeds)
    stops = _stops(path, feeds) if count.measured else ""
    written = [counted.product for counted in count.products]
    weights = [weight_of(product) for product in written]
    found = _matched(written, weights, find_products(optimized))
    planned: dict[str, PlannedGemm] = {}
    kernels: dict[str, list[KernelTime]] = {}
    for counted, weight, node in zip(count.products, weights, found, strict=True):
        product = counted.product
        reason = why_unplanned(product, weight)
        planned[product.name] = {
            "precision": FLOAT if reason else INT8,
            "reason": reason,
            "flops": counted.flops,
            "float_flops": 0,
            "marks": [],
        }
        kernels[product.name] = [] if node is None else [_kernel(node, product, weight, stops)]
    told = worded(tally(planned, kernels, 0.0), measured=count.measured)
    told["shape"] = [list(array.shape) for array in feeds.values()]
    told["flops_reason"] = count.reason
    return told


def why_unplanned(product: Product, weight: StoredWeight | None) -> str:
    """Why a product as it is written is no INT8 one; empty where it is."""
    operator = product.node.op_type
    if operator in INT8_KERNELS:
        return ""
    if operator == "MatMulNBits":
        return _weight_only(product.node)
    if not product.judged:
        return unplanned(product)
    if weight is None:
        return "its weight is computed from several constants"
    return "" if weight.eight_bits else "its weight is not stored in 8 bits"


def _weight_only(node: ir.Node) -> str:
    level = node.attributes.get("accuracy_level")
    bits = node.attributes.get("bits")
    text = (
        f"MatMulNBits stores its weight in {4 if bits is None else bits.as_int()} bits and takes "
        "its input in float (weight-only)"
    )
    if level is not None and level.as_int() == 4:
        text += "; what its accuracy_level 4 multiplies is not shown and not judged"
    return text


def _stops(path: Path, feeds: Mapping[str, Array]) -> str:
    """Why the optimized graph of a file does not run, though the file as written does; or empty."""
    try:
        open_session(path, session_options(1)).run(None, dict(feeds))
    except Exception as error:  # onnxruntime raises classes of its own for each cause
        return reason_of(error)
    return ""


def _kernel(node: ir.Node, product: Product, weight: StoredWeight | None, stops: str) -> KernelTime:
    """The kernel of a product; why it is float is told from the file where that says more."""
    kernel = kernel_of(node)
    if kernel.int8 and not stops:
        return kernel
    stopped = f"ONNX Runtime's optimized graph stops when it runs ({stops})"
    reason = (
        kernel.fallback_reason if kernel.int8 else _cause(product, weight) or kernel.fallback_reason
    )
    reason = reason or stopped
    return KernelTime(kernel.name, kernel.kernel, 0.0, 1, int8=False, fallback_reason=reason)


def _cause(product: Product, weight: StoredWeight | None) -> str:
    if weight is not None and weight.blocks:
        return "its weight has a scale per block, and no INT8 kernel takes one"
    source = next(at for at in product.operands if at not in product.constants)
    value = product.node.inputs[source]
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return ""
    codes, zero = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    types = {getattr(codes, "dtype", None), getattr(zero, "dtype", None)}
    if types & set(_SIXTEEN_BITS):
        return "its input has 16 bits, and INT8 kernels take 8"
    return ""


def _matched(
    written: Sequence[Product],
    weights: Sequence[StoredWeight | None],
    ran: Sequence[Product],
) -> list[ir.Node | None]:
    """For each product of a file the node that computes it in the optimized graph, if found."""
    prints = [frozenset() if weight is None else weight.fingerprints() for weight in weights]
    open_ = {index: _prints_of(product) for index, product in enumerate(ran)}
    found: list[ir.Node | None] = [None] * len(written)
    for by_name in (True, False):
        for at, product in enumerate(written):
            if found[at] is not None:
                continue
            same = [i for i, known in open_.items() if known & prints[at]]
            if by_name:
                names = set(_behind(product.node))
                same = [i for i in same if ran[i].node.outputs[0].name in names]
            if same:
                found[at] = ran[same[0]].node
                del open_[same[0]]
    for at in range(len(written)):
        if found[at] is None:
            found[at] = _merged(at, written, prints, found)
    return found


def _prints_of(product: Product) -> frozenset[bytes]:
    weight = weight_of(product)
    return frozenset() if weight is None else weight.fingerprints()


def _behind(node: ir.Node) -> Iterator[str]:
    """Names of what a product computes, alone and with what ONNX Runtime may fuse behind it."""
    value = node.outputs[0]
    for _ in range(_REWRITTEN):
        yield str(value.name)
        readers = list(value.uses())
        if len(readers) != 1 or len(readers[0].node.outputs) != 1:
            return
        value = readers[0].node.outputs[0]


def _merged(
    at: int,
    written: Sequence[Product],
    prints: Sequence[frozenset[bytes]],
    found: Sequence[ir.Node | None],
) -> ir.Node | None:
    """The node of a twin: equal weight and the same input, which ONNX Runtime computes once."""
    for other, node in enumerate(found):
        twin = node is not None and prints[other] & prints[at]
        if twin and _source(written[other]) is _source(written[at]):
            return node
    return None


def _source(product: Product) -> ir.Value | None:
    """The tensor that a product reads, before its rounding."""
    at = next(at for at in product.operands if at not in product.constants)
    value = product.node.inputs[at]
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in _ROUNDING:
            break
        value = node.inputs[0]
    return value
