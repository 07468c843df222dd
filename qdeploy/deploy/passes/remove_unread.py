"""What the head does not read is not computed: the last layer of a classifier runs on one token.

A sequence classifier reads the first token of the last layer. Of that layer the query, the
attention and everything behind it are then needed for B tokens, not for B · S: 7 % of all GEMM work
with 12 layers, 14 % with 6. Keys and values are needed of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.passes.token_axes import TOKEN, TokenAxes, readers, select_first
from qdeploy.graph.editor import GraphEditor

_SUMS = frozenset(("Add", "Sub", "Mul", "Div", "Where", "Sum"))


def remove_unread(model: ir.Model, tokens: ir.Value) -> int:
    """Compute of the last layer what the head reads.

    1. Assumes that shapes of the canonical graph stand on its values.
    2. Recognizes tensors that are read by `x[:, 0]` alone, and follows them up through token-wise
       nodes, reshapes into heads and back, softmax, and products of attention.
    3. Guarantees the same outputs: every node computes for the first token what it did.
    4. Leaves a tensor with any other reader as it is, and cuts its first token out of it there.

    Args:
        model: changed in place; its nodes stand in order.
        tokens: the graph input [B, S].

    Returns:
        How many nodes run on one token a row now.
    """
    search = _Search(TokenAxes.of(model, tokens))
    # readers come before makers, so that one pass follows a tensor all the way up
    for node in reversed(list(model.graph)):
        search.look(node)
    if not search.narrowed:
        return 0
    editor = GraphEditor(model)
    for node, axis in search.narrowed.items():
        _narrow(editor, node, axis, search)
    editor.finish()
    return len(search.narrowed)


@dataclass
class _Search:
    """Nodes whose output is needed for the first token alone, with the axis of the tokens in it.

    Attributes:
        axes: of the graph.
        narrowed: by node, in reverse order.
        operands: of each, the inputs of which the first token will do, with their axis.
    """

    axes: TokenAxes
    narrowed: dict[ir.Node, int] = field(default_factory=dict)
    operands: dict[ir.Node, dict[int, int]] = field(default_factory=dict)

    def look(self, node: ir.Node) -> None:
        """Take a node in, if all that reads it wants the first token."""
        if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            return
        wanted = {self._wanted(reader, at) for reader, at in readers(node.outputs[0])}
        if len(wanted) != 1 or None in wanted:
            return
        (axis,) = wanted
        assert axis is not None
        operands = self._operands(node, axis)
        if operands:
            self.narrowed[node], self.operands[node] = axis, operands

    def _wanted(self, reader: ir.Node, at: int) -> int | None:
        """The axis along which a reader takes the first entry of an input; None: it takes more."""
        if reader in self.narrowed:
            return self.operands[reader].get(at)
        is_token = self.axes.kinds.get(reader.inputs[0]) == TOKEN if reader.inputs[0] else False
        return 1 if at == 0 and is_token and select_first(reader) else None

    def _operands(self, node: ir.Node, axis: int) -> dict[int, int] | None:
        """Inputs that the first entry along an output's axis needs the first entry of."""
        # token-wise: the same token of every operand; a table of embeddings has no tokens
        if axis == 1 and node in self.axes.operands:
            gathers = node.op_type == "Gather" and self.axes.operands[node] == (1,)
            return None if gathers else dict.fromkeys(self.axes.operands[node], 1)
        output = node.outputs[0]
        if output.shape is None:
            return None
        rank = len(output.shape)
        if node.op_type == "Transpose":
            return {0: int(node.attributes["perm"].as_ints()[axis])}
        if node.op_type == "Reshape":
            return {0: 1} if axis == 1 and _keeps_tokens(node) else None
        # scores and context: rows of the first operand are queries, all of the second is needed
        if node.op_type == "MatMul":
            return {0: axis} if axis == rank - 2 and _rank(node.inputs[0]) == rank else None
        # softmax over keys leaves queries apart
        if node.op_type == "Softmax":
            last = node.attributes.get("axis")
            return {0: axis} if last is None or last.as_int() in (-1, rank - 1) else None
        if node.op_type in _SUMS:
            return _broadcast(node, axis, rank)
        return None


def _keeps_tokens(node: ir.Node) -> bool:
    """Whether a Reshape splits or joins channels alone: [B, S, H] and [B, S, heads, H / heads]."""
    source, target = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or target.shape is None:
        return False
    ours, theirs = list(source.shape), list(target.shape)
    if min(len(ours), len(theirs)) < 3 or [str(s) for s in ours[:2]] != [
        str(s) for s in theirs[:2]
    ]:
        return False
    sizes = (*ours[2:], *theirs[2:])
    return all(isinstance(size, int) for size in sizes) and not isinstance(theirs[1], int)


def _broadcast(node: ir.Node, axis: int, rank: int) -> dict[int, int] | None:
    """Inputs of an elementwise node that have that axis, and not of one entry."""
    found = {}
    for at, value in enumerate(node.inputs):
        if value is None:
            continue
        shape = value.const_value.shape if value.const_value is not None else value.shape
        if shape is None:
            return None
        # a mask [B, 1, 1, S] is the same for all queries, and [B, 1, S, S] is not
        own = axis - (rank - len(shape))
        if own >= 0 and shape[own] != 1:
            found[at] = own
    return found


def _narrow(editor: GraphEditor, node: ir.Node, axis: int, search: _Search) -> None:
    """Let a node run on the first token: its inputs cut where their makers still make all."""
    for at, own in search.operands[node].items():
        value = node.inputs[at]
        assert value is not None
        maker = value.producer()
        if maker is None or maker not in search.narrowed:
            node.replace_input_with(at, _first(editor, value, own))
    output = node.outputs[0]
    # its target was computed from the number of tokens; 0 keeps what the input has
    if node.op_type == "Reshape":
        assert output.shape is not None
        target = np.array([0, 0, *(int(str(size)) for size in output.shape[2:])], np.int64)
        node.replace_input_with(1, editor.constant(f"{node.name}_first_token", target))
        node.attributes.pop("allowzero", None)
    if output.shape is not None:
        output.shape = ir.Shape([*output.shape[:axis], 1, *output.shape[axis + 1 :]])


def _first(editor: GraphEditor, value: ir.Value, axis: int) -> ir.Value:
    """x[…, 0:1, …] along an axis; one node however many read it."""
    for reader, at in readers(value):
        if at == 0 and reader.name == f"{value.name}/first_token{axis}":
            return reader.outputs[0]
    name = f"{value.name}/first_token{axis}"
    numbers = [editor.constant(f"{name}_{k}", np.array([n], np.int64))
               for k, n in (("start", 0), ("end", 1), ("axis", axis))]  # fmt: skip
    kind = ir.DataType.FLOAT if value.dtype is None else value.dtype
    node = editor.node("Slice", [value, *numbers], name, dtype=kind)
    if value.shape is not None:
        sizes = [*value.shape[:axis], 1, *value.shape[axis + 1 :]]
        node.outputs[0].shape = ir.Shape(sizes)
    return node.outputs[0]


def _rank(value: ir.Value | None) -> int:
    return -1 if value is None or value.shape is None else len(value.shape)
