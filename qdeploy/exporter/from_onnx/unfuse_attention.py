"""ONNX Runtime's fused attention written out: products, softmax and layout.

`Attention` holds the weights of query, key and value side by side, [H, 3·H]; they become three
products, as every checkpoint has them, so that each is a site of its own. `MultiHeadAttention`
takes the three from outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import SCOPES, Edit, array_of, given, only_reader

_PARTS = ("query", "key", "value")
_MASKED = -10000.0  # what ONNX Runtime adds to a masked score, where the node does not say
_REMEDY = "Pass the file before it was optimized, or the checkpoint."


@dataclass(frozen=True)
class _Heads:
    """How the scores of one node are made."""

    count: int
    scale: float | None
    masked: float

    @classmethod
    def of(cls, node: ir.Node) -> _Heads:
        scale = node.attributes.get_float("scale", 0.0)
        masked = node.attributes.get_float("mask_filter_value", _MASKED)
        return cls(node.attributes.get_int("num_heads", 1), scale or None, masked)


def attention(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """Inputs x [B, S, H], weights [H, 3·H], bias [3·H], mask, past, bias of scores.

    Raises:
        CheckpointError: a decoder's form, or weights that are computed.
    """
    flags = ("unidirectional", "do_rotary", "past_present_share_buffer")
    if any(node.attributes.get_int(name, 0) for name in flags) or given(node, 4) is not None:
        raise CheckpointError(
            f"{node.name} is the attention of a decoder, and qdeploy exports encoders. Pass the "
            "file of an encoder such as BERT."
        )
    weights, biases = array_of(node.inputs[1]), array_of(given(node, 2))
    if weights is None:
        raise CheckpointError(f"{node.name} has weights that are computed. {_REMEDY}")
    sizes = node.attributes.get_ints("qkv_hidden_sizes", [weights.shape[1] // 3] * 3)
    cuts = np.cumsum(sizes)[:-1]
    streams = []
    for at, part in enumerate(_PARTS):
        name = f"{_base(node)}.{part}"
        weight = np.split(weights, cuts, axis=1)[at]
        made = edit.add(
            "MatMul",
            [node.inputs[0], edit.constant(f"{name}.weight", weight)],
            name=f"{name}/MatMul",
        )
        if biases is not None:
            bias = edit.constant(f"{name}.bias", np.split(biases, cuts)[at])
            made = edit.add("Add", [made, bias], name=f"{name}/Add")
        streams.append(made)
    mask, extra = given(node, 3), given(node, 5)
    return [_attend(edit, node, streams, list(sizes), mask, extra)]


def multi_head_attention(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """Inputs query, key, value [B, S, H], bias [3·H], mask, bias of scores.

    Raises:
        CheckpointError: packed or cached keys.
    """
    streams = [given(node, at) for at in range(3)]
    cached = any(given(node, at) is not None for at in range(6, len(node.inputs)))
    if cached or node.attributes.get_int("unidirectional", False):
        raise CheckpointError(
            f"{node.name} is the attention of a decoder, and qdeploy exports encoders. Pass the "
            "file of an encoder such as BERT."
        )
    biases = array_of(given(node, 3))
    sizes = [_channels(value) for value in streams]
    if None in sizes and biases is not None:
        sizes = [biases.size // 3] * 3
    if any(value is None for value in streams) or any(size is None for size in sizes):
        raise CheckpointError(
            f"{node.name} reads packed keys or values, or tensors of unknown size. {_REMEDY}"
        )
    known = [size for size in sizes if size is not None]
    made: list[ir.Value] = []
    for at, value in enumerate(streams):
        assert value is not None
        if biases is not None:
            bias = np.split(biases, np.cumsum(known)[:-1])[at]
            name = f"{_base(node)}.{_PARTS[at]}.bias"
            value = edit.add("Add", [value, edit.constant(name, bias)], value.producer() or node)
        made.append(value)
    return [_attend(edit, node, made, known, given(node, 4), given(node, 5))]


def standard_attention(edit: Edit, node: ir.Node) -> list[ir.Value | None]:
    """ONNX's own of opset 23: query, key, value [B, heads, S, d], mask of bool or scores.

    Raises:
        CheckpointError: a decoder's form, or another layout.
    """
    query, key, value, mask = (given(node, at) for at in range(4))
    cached = any(given(node, at) is not None for at in range(4, len(node.inputs)))
    if cached or node.attributes.get_int("is_causal", False):
        raise CheckpointError(
            f"{node.name} is the attention of a decoder, and qdeploy exports encoders. Pass the "
            "file of an encoder such as BERT."
        )
    depth = None if query is None or query.shape is None else query.shape[-1]
    plain = not node.attributes.get_float("softcap", 0.0) and key is not None
    if not plain or not isinstance(depth, int) or query is None or len(query.shape or ()) != 4:
        raise CheckpointError(f"{node.name} is an Attention in a form that is not known. {_REMEDY}")
    turned = edit.add("Transpose", [key], node, perm=[0, 1, 3, 2])
    scores = edit.add("MatMul", [query, turned], node)
    scale = node.attributes.get_float("scale", 0.0) or 1 / math.sqrt(depth)
    factor = edit.constant(f"{node.name}/scale", np.array(scale, np.float32))
    scores = edit.add("Mul", [scores, factor], node)
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        lowest = float(np.finfo(np.float32).min)
        numbers = [edit.constant("mask/number", np.array(n, np.float32)) for n in (0.0, lowest)]
        mask = edit.add("Where", [mask, *numbers], node)
    if mask is not None:
        scores = edit.add("Add", [scores, mask], node)
    weights = edit.add("Softmax", [scores], node, axis=-1)
    return [edit.add("MatMul", [weights, value], node)]


def _attend(
    edit: Edit,
    node: ir.Node,
    streams: list[ir.Value],
    sizes: list[int],
    mask: ir.Value | None,
    extra: ir.Value | None,
) -> ir.Value:
    """[B, S, H] of softmax(query · keyᵀ · scale + mask + extra) · value."""
    heads = _Heads.of(node)
    query, key, value = (
        _split(edit, node, stream, heads.count, size, turned=at == 1)
        for at, (stream, size) in enumerate(zip(streams, sizes, strict=True))
    )
    scores = edit.add("MatMul", [query, key], node)
    scale = heads.scale or 1 / math.sqrt(sizes[0] // heads.count)
    factor = edit.constant(f"{node.name}/scale", np.array(scale, np.float32))
    scores = edit.add("Mul", [scores, factor], node)
    if mask is not None:
        scores = edit.add("Add", [scores, _mask(edit, node, mask, heads.masked)], node)
    if extra is not None:
        scores = edit.add("Add", [scores, extra], node)
    weights = edit.add("Softmax", [scores], node, axis=-1)
    found = edit.add("MatMul", [weights, value], node)
    found = edit.add("Transpose", [found], node, perm=[0, 2, 1, 3])
    shape = edit.integers(f"{node.name}/shape", [0, 0, sizes[2]])
    return edit.add("Reshape", [found, shape], node)


def _split(
    edit: Edit, node: ir.Node, stream: ir.Value, heads: int, size: int, *, turned: bool
) -> ir.Value:
    """[B, S, H] → [B, heads, S, d], of keys [B, heads, d, S]."""
    shape = edit.integers(f"{node.name}/heads", [0, 0, heads, size // heads])
    parted = edit.add("Reshape", [stream, shape], node)
    return edit.add("Transpose", [parted], node, perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])


def _mask(edit: Edit, node: ir.Node, mask: ir.Value, masked: float) -> ir.Value:
    """FP32 [B, 1, 1, S], or [B, 1, S, S]: 0 where a key is real.

    Raises:
        CheckpointError: a form that is not known.
    """
    source = _raw(mask)
    rank = None if source.shape is None else len(source.shape)
    if rank not in (2, 3):
        raise CheckpointError(
            f"{node.name} takes its mask in a form that cannot be written out. {_REMEDY}"
        )
    real = edit.add("Cast", [source], node, to=ir.DataType.BOOL.value)
    real = edit.add("Unsqueeze", [real, edit.integers("axes", [1, 2] if rank == 2 else [1])], node)
    numbers = [edit.constant("mask/number", np.array(n, np.float32)) for n in (0.0, masked)]
    return edit.add("Where", [real, *numbers], node)


def _raw(mask: ir.Value) -> ir.Value:
    """The mask [B, S] behind lengths of rows [B], which sum it; else the value itself."""
    node = mask.producer()
    if node is not None and node.op_type == "ReduceSum" and node.inputs[0] is not None:
        mask = node.inputs[0]
        node = mask.producer()
    while node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        mask = node.inputs[0]
        node = mask.producer()
    return mask


def _channels(value: ir.Value | None) -> int | None:
    """The last size of a tensor [B, S, H]: as its shape says, or the product that makes it."""
    while value is not None:
        size = value.shape[-1] if value.shape is not None and len(value.shape) == 3 else None
        if isinstance(size, int):
            return size
        node = value.producer()
        arrays = [] if node is None else [a for v in node.inputs if (a := array_of(v)) is not None]
        if arrays and node is not None and node.op_type in ("MatMul", "Add"):
            return int(arrays[0].shape[-1])
        value = None
    return None


def _base(node: ir.Node) -> str:
    """The module of a fused attention: of its node, or beside that of the product behind it."""
    return _module(node) or str(node.name).replace("/", ".").strip(".") or "attention"


def _module(node: ir.Node) -> str:
    """The module that a fused node belongs to, by the product that alone reads it; "" if none."""
    reader = only_reader(node.outputs[0])
    text = "" if reader is None else str(reader.name)
    if "/" not in text or SCOPES in node.metadata_props:
        return ""
    module = text.strip("/").rpartition("/")[0].replace("/", ".")
    return (
        f"{module.removesuffix('.output.dense')}.self" if module.endswith(".output.dense") else ""
    )
