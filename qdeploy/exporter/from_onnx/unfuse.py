"""Operators of ONNX Runtime's own optimizers (com.microsoft) as operators of ONNX.

Each rule follows the operator's documentation (onnxruntime, docs/ContribOperators.md, 1.31). Below
opset 20; an operator without a rule is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import STANDARD, Edit, array_of, given
from qdeploy.exporter.from_onnx.unfuse_attention import (
    attention,
    multi_head_attention,
    standard_attention,
)

MICROSOFT = "com.microsoft"
_EPSILON = 1e-12  # of ONNX Runtime's fused normalizations, where none is set
_SLOPE = 0.01  # of LeakyRelu
_QUICK = 1.702  # the factor of QuickGelu, where none is set

# ONNX Runtime's own, under the name of ONNX.
_EARLY = ("SimplifiedLayerNormalization",)
# ONNX's own of opset 23, which are functions of older operators.
_LATE = ("Attention", "RMSNormalization")

# Makes the outputs of a fused node, None for those that nothing reads.
Rule: TypeAlias = Callable[[Edit, ir.Node], list[ir.Value | None]]


def unfuse(model: ir.Model, origin: str) -> list[str]:
    """Write every fused operator out, in place.

    1. Assumes opset 20, and masks of 0 and 1 with padding on the right.
    2. Recognizes the operators of `RULES`.
    3. Guarantees the same function for such masks.
    4. Leaves operators of ONNX.

    Args:
        origin: of the graph, for the error.

    Returns:
        Names of the operators that were there.

    Raises:
        CheckpointError: an operator that has no rule, or a form of one.
    """
    edit, found = Edit(model), dict[str, None]()
    for node in [
        n for n in model.graph if n.domain not in STANDARD or n.op_type in (*_EARLY, *_LATE)
    ]:
        rules = {MICROSOFT: RULES} | dict.fromkeys(STANDARD, _STANDARD_RULES)
        rule = rules.get(node.domain, {}).get(node.op_type)
        if rule is None:
            raise CheckpointError(
                f"{origin} has the operator {node.domain}::{node.op_type}, which cannot be written "
                "in operators of ONNX. Pass the file before it was optimized, or the checkpoint."
            )
        found[node.op_type] = None
        for old, new in zip(node.outputs, rule(edit, node), strict=False):
            if new is not None:
                edit.replace(old, new)
        if any(value.uses() or value.is_graph_output() for value in node.outputs):
            raise CheckpointError(
                f"{origin} reads an output of {node.op_type} ({node.name}) that cannot be written "
                "in operators of ONNX. Pass the file before it was optimized, or the checkpoint."
            )
    edit.finish()
    for domain in [name for name in model.opset_imports if name not in STANDARD]:
        del model.opset_imports[domain]
    return list(found)


def _norm(edit: Edit, node: ir.Node, x: ir.Value, weight: int, bias: int) -> ir.Value:
    read = [x, given(node, weight), given(node, bias)]
    return edit.add(
        "LayerNormalization",
        read if read[2] is not None else read[:2],
        node,
        axis=-1,
        epsilon=node.attributes.get_float("epsilon", _EPSILON),
        stash_type=1,
    )


def _skip_layer_norm(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """Inputs x, skip, weight, bias, and the bias of the product before; output 3 is the sum."""
    x, before = given(node, 0), given(node, 4)
    if before is not None:
        x = edit.add("Add", [x, before], node)
    total = edit.add("Add", [x, given(node, 1)], node)
    return [_norm(edit, node, total, 2, 3), None, None, total]


def _simplified(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """x / √(mean(x²) + ε) · weight (Zhang and Sennrich 2019, arXiv 1910.07467).

    The mean is over `axis` and all axes behind it. Nothing where that is counted from the front of
    a tensor whose rank the file does not say.
    """
    x = given(node, 0)
    first = node.attributes.get_int("axis", -1)
    if first >= 0:
        if x is None or x.shape is None:
            return []
        first -= len(x.shape)
    two = edit.constant("number", np.array(2, np.float32))
    epsilon = edit.constant(
        "epsilon", np.array(node.attributes.get_float("epsilon", 1e-5), np.float32)
    )
    square = edit.add("Pow", [x, two], node)
    axes = edit.integers("axes", list(range(first, 0)))
    mean = edit.add("ReduceMean", [square, axes], node, keepdims=1)
    root = edit.add("Sqrt", [edit.add("Add", [mean, epsilon], node)], node)
    return [edit.add("Mul", [edit.add("Div", [x, root], node), given(node, 1)], node)]


def _embed_layer_norm(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """Inputs ids, types, three tables, weight, bias, mask, positions; outputs x, lengths, sum."""
    ids, types, mask, places = (given(node, at) for at in (0, 1, 7, 8))
    total = edit.add("Gather", [given(node, 2), ids], node, axis=0)
    if places is None:
        places = _positions(edit, node, ids)
    total = edit.add(
        "Add", [total, edit.add("Gather", [given(node, 3), places], node, axis=0)], node
    )
    if types is not None:
        rows = edit.add("Gather", [given(node, 4), types], node, axis=0)
        total = edit.add("Add", [total, rows], node)
    lengths = None
    if mask is not None:
        whole = edit.add("Cast", [mask], node, to=ir.DataType.INT32.value)
        lengths = edit.add("ReduceSum", [whole, edit.integers("axes", [1])], node, keepdims=0)
    return [_norm(edit, node, total, 5, 6), lengths, total]


def _positions(edit: Edit, node: ir.Node, ids: ir.Value | None) -> ir.Value:
    """0, 1, … of the tokens of a row, int64 [1, S]."""
    zero, one = (edit.constant("number", np.array(n, np.int64)) for n in (0, 1))
    size = edit.add("Shape", [ids], node, start=1, end=2)
    stop = edit.add("Squeeze", [size], node)
    found = edit.add("Range", [zero, stop, one], node)
    return edit.add("Unsqueeze", [found, edit.integers("axes", [0])], node)


def _gelu(approximate: str) -> Rule:
    def rule(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
        x, bias = given(node, 0), given(node, 1)
        if bias is not None:
            x = edit.add("Add", [x, bias], node)
        return [edit.add("Gelu", [x], node, approximate=approximate)]

    return rule


def _quick_gelu(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    alpha = node.attributes.get_float("alpha", _QUICK)
    factor = edit.constant("alpha", np.array(alpha, np.float32))
    gate = edit.add("Sigmoid", [edit.add("Mul", [node.inputs[0], factor], node)], node)
    return [edit.add("Mul", [node.inputs[0], gate], node)]


def _fused_matmul(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    if any(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB")):
        return []
    read = []
    for value, name in zip(node.inputs, ("transA", "transB"), strict=True):
        turned = bool(node.attributes.get_int(name, 0))
        read.append(_turned(edit, node, value) if turned and value is not None else value)
    product = edit.add("MatMul", read, node)
    alpha = node.attributes.get_float("alpha", 1.0)
    if alpha == 1.0:
        return [product]
    return [edit.add("Mul", [product, edit.constant("alpha", np.array(alpha, np.float32))], node)]


def _fused_gemm(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    kind = node.attributes.get_string("activation", "")
    if kind not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu"):
        return []
    names = ("alpha", "beta", "transA", "transB")
    kept = {name: node.attributes[name].value for name in names if name in node.attributes}
    product = edit.add("Gemm", list(node.inputs), node, **kept)
    if kind == "LeakyRelu":
        slope = node.attributes.get_float("activation_alpha", _SLOPE)
        return [edit.add(kind, [product], node, alpha=slope)]
    return [edit.add(kind, [product], node)]


def _turned(edit: Edit, node: ir.Node, value: ir.Value) -> ir.Value:
    """A tensor with its last two axes exchanged; its shape has to be known."""
    array = array_of(value)
    rank = len(array.shape) if array is not None else len(value.shape or ())
    if rank < 2:
        raise CheckpointError(
            f"{node.name} turns {value.name}, whose shape the file does not say. Pass the file "
            "before it was optimized, or the checkpoint."
        )
    order = [*range(rank - 2), rank - 1, rank - 2]
    return edit.add("Transpose", [value], node, perm=order)


_STANDARD_RULES: Mapping[str, Rule] = {
    "SimplifiedLayerNormalization": _simplified,
    "RMSNormalization": _simplified,
    "Attention": standard_attention,
}
RULES: Mapping[str, Rule] = {
    "SkipLayerNormalization": _skip_layer_norm,
    "EmbedLayerNormalization": _embed_layer_norm,
    "BiasGelu": _gelu("none"),
    "Gelu": _gelu("none"),
    "FastGelu": _gelu("tanh"),
    "QuickGelu": _quick_gelu,
    "FusedMatMul": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "Attention": attention,
    "MultiHeadAttention": multi_head_attention,
}
