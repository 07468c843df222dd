"""Padding is not computed: what works on tokens one by one runs on the real ones alone.

A batch is padded to its longest row: of QNLI's rows 38 % of a batch of 8 is padding, 50 % of 32.
All GEMMs, normalizations, activation functions, roundings and sums run on [1, T, H] here, T real
tokens one behind the other. Attention needs rows, so query, key and value go back to [B, S', …] in
front of it. Source of the idea: ByteTransformer (Zhai et al. 2022, arXiv 2210.03052), which does it
in kernels of its own; here it is plain ONNX operators.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from qdeploy.deploy.passes.packed_rows import NAME, PackedRows
from qdeploy.deploy.passes.padding_parts import token_parts
from qdeploy.deploy.passes.token_axes import (
    ROW_FREE,
    TOKEN,
    TokenAxes,
    readers,
    select_first,
)
from qdeploy.graph.editor import GraphEditor


def remove_padding(model: ir.Model, mask: str = "attention_mask", tokens: str = "input_ids") -> str:
    """Let token-wise nodes run without padding.

    1. Assumes that shapes of the canonical graph stand on its values.
    2. Recognizes parts of the graph that are token-wise (`TokenAxes`) and hold a linear GEMM.
    3. Guarantees the same outputs for real tokens and for the first of each row; what a token-level
       head gives at padding is 0.
    4. Leaves attention, and all else that looks at several tokens, on [B, S', …].

    Args:
        model: changed in place; its nodes stand in order.
        mask, tokens: names of inputs [B, S].

    Returns:
        Why nothing was changed; empty where something was.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    if mask not in inputs or tokens not in inputs:
        return "the model takes no attention mask"
    if any(node.op_type == "DynamicQuantizeLinear" for node in model.graph):
        return "ranges found at run time take padding in"
    axes = TokenAxes.of(model, inputs[tokens])
    parts = token_parts(model, axes, inputs[mask])
    if not parts:
        return "no part of the graph works on tokens one by one"
    if any(_sizes(value) is None for value in _sources(parts, axes)):
        return "a tensor of tokens has no known size"
    editor = GraphEditor(model)
    rows = PackedRows.of(editor, inputs[mask])
    _cut_inputs(model, rows)
    _Packing(model, axes, rows, set(parts)).apply()
    editor.finish()
    _forget_shapes(model)
    return ""


def _sources(parts: list[ir.Node], axes: TokenAxes) -> list[ir.Value]:
    """Tensors that the parts read and do not make."""
    inside = set(parts)
    found: dict[ir.Value, None] = {}
    for node in parts:
        for at in axes.operands[node]:
            value = node.inputs[at]
            if value is not None and value.producer() not in inside:
                found[value] = None
    return list(found)


def _sizes(value: ir.Value) -> list[int] | None:
    """The sizes behind [B, S, …]; None where one is not known."""
    if value.shape is None:
        return None
    sizes = [size for size in value.shape[2:] if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) - 2 else None


def _forget_shapes(model: ir.Model) -> None:
    """Drop shapes that name the columns of the inputs: fewer are left, and runtimes find out."""
    # ONNX Runtime warns on every run of a shape that is not the run's
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            fixed = value.shape is None or all(isinstance(size, int) for size in value.shape)
            if not fixed and value not in outputs:
                value.shape = None


def _cut_inputs(model: ir.Model, rows: PackedRows) -> None:
    """Let everything but the search for padding itself read inputs without unused columns."""
    for value in list(model.graph.inputs):
        if value.shape is None or len(value.shape) != 2:
            continue
        # what finds padding needs every column, the cut itself among it
        nodes = {node for node, _ in value.uses()}
        search = {node for node in nodes if str(node.name).startswith(f"{NAME}/")}
        if nodes != search:
            cut = rows.cut(value)
            made = cut.producer()
            assert made is not None
            rows.editor.replace_uses(value, cut, besides=search | {made})


@dataclass
class _Packing:
    """Moves parts of a graph to [1, T, …].

    Attributes:
        model, axes, rows: see above.
        inside: nodes that run on packed rows.
        packed, padded: what was made of a tensor already.
    """

    model: ir.Model
    axes: TokenAxes
    rows: PackedRows
    inside: set[ir.Node]
    packed: dict[ir.Value, ir.Value] = field(default_factory=dict)
    padded: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def apply(self) -> None:
        """Gathers at the borders of the parts."""
        nodes = [node for node in self.model.graph if node in self.inside]
        outputs = list(self.model.graph.outputs)
        for node in nodes:
            for at in self.axes.operands[node]:
                value = node.inputs[at]
                assert value is not None
                if value.producer() not in self.inside:
                    node.replace_input_with(at, self._packed(value))
        # readers outside get rows back, in the form that they would make of them
        for value in (value for node in nodes for value in node.outputs):
            for reader, at in readers(value):
                if reader not in self.inside:
                    self._give(value, reader, at)
            if value in outputs:
                self._stand_in_front(value, self.rows.output(value, self.axes.ranks[value]))
            value.shape = None  # it is [1, T, …] now
        for value in outputs:  # those that other nodes make have lost columns
            if self.axes.kinds.get(value) == TOKEN and value.producer() not in self.inside:
                self._stand_in_front(value, self.rows.widen(value, self.axes.ranks[value]))

    def _packed(self, value: ir.Value) -> ir.Value:
        if value not in self.packed:
            if self.axes.kinds.get(value) == ROW_FREE:
                self.packed[value] = self.rows.pack_row_free(value)
            # behind attention: out of heads and out of rows is one gather, too
            elif (joined := _joined_heads(value)) is not None:
                self.packed[value] = self.rows.pack_heads(*joined)
            else:
                sizes = _sizes(value)
                assert sizes is not None
                self.packed[value] = self.rows.pack(value, sizes)
        return self.packed[value]

    def _give(self, value: ir.Value, reader: ir.Node, at: int) -> None:
        """A packed tensor to a node that reads rows."""
        # a head that reads the first token needs no padded rows
        if at == 0 and select_first(reader):
            self._replace(reader, self.rows.first(value, keep=reader.op_type == "Slice"))
            return
        # attention: into rows and into heads is one gather
        if at == 0 and (split := _split_heads(reader)) is not None:
            transposed, count, size = split
            found = self.rows.heads(value, count, size)
            perm = transposed.attributes["perm"].as_ints()
            if list(perm) == [0, 2, 3, 1]:
                name = f"{transposed.name}/last"
                node = self.rows.editor.node("Transpose", [found], name, perm=[0, 1, 3, 2])
                found = node.outputs[0]
            self._replace(transposed, found)
            return
        if value not in self.padded:
            found = self.rows.unpack(value)
            found.shape = None if value.shape is None else value.shape.copy()
            self.padded[value] = found
        reader.replace_input_with(at, self.padded[value])

    def _replace(self, node: ir.Node, made: ir.Value) -> None:
        """Let what reads a node read a tensor of the same values."""
        made.shape = node.outputs[0].shape
        # CLS pooling: the first token is the graph's own output
        if node.outputs[0].is_graph_output():
            self._stand_in_front(node.outputs[0], made)
        self.rows.editor.replace_uses(node.outputs[0], made, besides=set())

    def _stand_in_front(self, value: ir.Value, whole: ir.Value) -> None:
        """Let another tensor be the graph's output, under its name."""
        index = next(i for i, output in enumerate(self.model.graph.outputs) if output is value)
        name = str(value.name)
        value.name = self.rows.editor.unique(f"{name}_packed")
        whole.name, whole.type, whole.shape = name, value.type, value.shape
        self.model.graph.outputs[index] = whole


def _split_heads(reader: ir.Node) -> tuple[ir.Node, int, int] | None:
    """Of a Reshape to [B, S, heads, size] that a Transpose alone reads: it, heads and size."""
    output = reader.outputs[0]
    following = [node for node, _ in readers(output)]
    if reader.op_type != "Reshape" or output.shape is None or len(output.shape) != 4:
        return None
    if len(following) != 1 or following[0].op_type != "Transpose":
        return None
    count, size = output.shape[2:]
    perm = list(following[0].attributes["perm"].as_ints())
    if perm not in ([0, 2, 1, 3], [0, 2, 3, 1]) or following[0].outputs[0].is_graph_output():
        return None
    if not isinstance(count, int) or not isinstance(size, int):
        return None
    return following[0], count, size


def _joined_heads(value: ir.Value) -> tuple[ir.Value, int, int] | None:
    """Of [B, S, H] that joins heads [B, heads, S, size]: that tensor, heads and size."""
    joined = value.producer()
    if joined is None or joined.op_type != "Reshape" or joined.inputs[0] is None:
        return None
    transposed = joined.inputs[0].producer()
    shape = joined.inputs[0].shape
    if transposed is None or transposed.op_type != "Transpose" or shape is None or len(shape) != 4:
        return None
    source, count, size = transposed.inputs[0], *shape[2:]
    perm = list(transposed.attributes["perm"].as_ints())
    if source is None or perm != [0, 2, 1, 3]:
        return None
    if not isinstance(count, int) or not isinstance(size, int):
        return None
    return source, count, size
