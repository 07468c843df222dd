"""Which tensors of a graph have a row for each token, and which nodes work on tokens one by one.

A *token tensor* is [B, S, …]: rows, tokens of a row. A node is *token-wise* where each token of its
output depends on that token of its inputs alone: linear GEMMs, LayerNormalization over channels,
activation functions, roundings, sums. Attention is not, nor is anything that moves tokens.

Shapes of the canonical graph say which tensors are token tensors; what a lowering has put between
them has no shape, and is one where it is token-wise on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qdeploy.graph.constants import constant

TOKEN, ROW_FREE = "token", "row-free"  # [B, S, …]; [1, S, …], the same for every row

# fmt: off
_UNARY = frozenset(
    {
        "Cast", "Identity", "Gelu", "Erf", "Tanh", "Sigmoid", "Relu", "Sqrt", "Neg", "Abs", "Exp",
        "Clip", "Softplus", "HardSigmoid", "HardSwish", "Mish", "LeakyRelu", "Elu", "Selu",
        "Celu", "Reciprocal", "Not", "FastGelu", "QuickGelu", "BiasGelu", "Floor", "Round",
        "Sign", "Softsign",
    }
)
_ROUNDING = frozenset(("QuantizeLinear", "DequantizeLinear"))
_MANY = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Sum", "Mean", "Where", "Pow", "Min", "Max", "PRelu", "And",
        "Or", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    }
)
# fmt: on
PRODUCTS = frozenset(("MatMul", "MatMulInteger", "MatMulIntegerToFloat"))
_NORMS = frozenset(
    ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax")
)
_REDUCTIONS = frozenset(("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceMax"))


@dataclass(frozen=True)
class TokenAxes:
    """The token tensors of one graph.

    Attributes:
        kinds: `TOKEN` or `ROW_FREE` of each tensor that is one.
        ranks: number of dimensions of the same tensors.
        operands: of each token-wise node, the inputs that are token tensors, by their index.
    """

    kinds: dict[ir.Value, str]
    ranks: dict[ir.Value, int]
    operands: dict[ir.Node, tuple[int, ...]]

    @classmethod
    def of(cls, model: ir.Model, tokens: ir.Value) -> TokenAxes:
        """The token tensors of a graph whose nodes stand in order.

        Args:
            tokens: a graph input [B, S].
        """
        found = cls({}, {}, {})
        constants = set(model.graph.initializers.values())
        assert tokens.shape is not None
        batch, sequence = (str(size) for size in tokens.shape)
        for value in model.graph.inputs:
            found._note(value, batch, sequence)
        for node in model.graph:
            inputs = [value for value in node.inputs if value is not None]
            # what is computed of constants alone is one: the weight behind its DequantizeLinear
            if inputs and all(value in constants for value in inputs):
                constants.update(node.outputs)
                continue
            for value in node.outputs:
                found._note(value, batch, sequence)
            read = found._operands(node, constants)
            if read is None or not any(_kind(found, node, at) == TOKEN for at in read):
                continue
            # an output whose own shape says otherwise is not taken for one
            rank = found._rank_of(node, read)
            if all(found._fits(value, rank) for value in node.outputs):
                found.operands[node] = read
                for value in node.outputs:
                    found.kinds[value], found.ranks[value] = TOKEN, rank
        return found

    def _note(self, value: ir.Value, batch: str, sequence: str) -> None:
        """Take a tensor for what its shape says."""
        shape = value.shape
        if shape is None or len(shape) < 2 or isinstance(shape[1], int):
            return
        # sizes of the input are names, and torch's export gives every tensor of tokens the same
        if str(shape[0]) == batch and str(shape[1]) == sequence:
            self.kinds[value], self.ranks[value] = TOKEN, len(shape)
        # position embeddings [1, S, H] are added to every row
        elif shape[0] == 1 and len(shape) == 3 and isinstance(shape[2], int):
            self.kinds[value], self.ranks[value] = ROW_FREE, len(shape)

    def _fits(self, value: ir.Value, rank: int) -> bool:
        """Whether nothing that is known of a tensor speaks against [B, S, …] of this rank."""
        return value.shape is None or (self.kinds.get(value) == TOKEN and self.ranks[value] == rank)

    def _operands(self, node: ir.Node, constants: set[ir.Value]) -> tuple[int, ...] | None:
        """Inputs of a node that would be token-wise on them, where all else is constant."""
        kind = node.op_type
        if kind in _MANY:
            return self._broadcast(node, constants)
        if kind == "Concat":
            read = tuple(range(len(node.inputs)))
            same = all(_kind(self, node, at) == TOKEN for at in read)
            return read if same and self._last(node, _axis(node)) else None
        if kind == "Gather":
            return self._gather(node, constants)
        others = [value for value in node.inputs[1:] if value is not None]
        if not all(value in constants for value in others) or _kind(self, node, 0) != TOKEN:
            return None
        if kind in _UNARY or (kind in _ROUNDING and self._rounds_channels(node)):
            return (0,)
        # a product of two computed tensors is attention
        if kind in PRODUCTS:
            return (0,) if len(others) > 0 and _rank(others[0]) == 2 else None
        if kind in _NORMS:
            return (0,) if self._last(node, _axis(node, -1)) else None
        if kind in ("Slice", "Split") or kind in _REDUCTIONS:
            return (0,) if self._channels_only(node) else None
        return None

    def _broadcast(self, node: ir.Node, constants: set[ir.Value]) -> tuple[int, ...] | None:
        """Of an elementwise node: token tensors of one rank, and constants of channels."""
        values = [value for value in node.inputs if value is not None]
        ranks = {self.ranks[value] for value in values if self.kinds.get(value) == TOKEN}
        if len(ranks) != 1:
            return None
        (rank,) = ranks
        read = []
        for at, value in enumerate(node.inputs):
            if value is None:
                continue
            if self.kinds.get(value) in (TOKEN, ROW_FREE) and self.ranks[value] == rank:
                read.append(at)
            elif value not in constants or not _of_channels(value, rank):
                return None
        return tuple(read)

    def _gather(self, node: ir.Node, constants: set[ir.Value]) -> tuple[int, ...] | None:
        """Rows of a table by token, or chosen channels of a token tensor."""
        data, indices = node.inputs
        axis = _axis(node, 0)
        # embeddings: the indices are the tokens
        if data in constants and axis == 0 and _kind(self, node, 1) == TOKEN:
            return (1,)
        chosen = indices in constants and _rank(indices) == 1 and self._last(node, axis)
        return (0,) if chosen and _kind(self, node, 0) == TOKEN else None

    def _rounds_channels(self, node: ir.Node) -> bool:
        """Whether a rounding has one scale, or one per channel."""
        return _rank(node.inputs[1]) == 0 or self._last(node, _axis(node, 1))

    def _channels_only(self, node: ir.Node) -> bool:
        """Whether a node cuts, splits or reduces the channels alone."""
        if node.op_type == "Split":
            return self._last(node, _axis(node, 0))
        # a reduction has to keep the axis, or ranks would differ
        keeps = node.attributes.get("keepdims")
        at = 3 if node.op_type == "Slice" else 1
        axes = constant(node.inputs[at]) if len(node.inputs) > at else None
        if axes is None or (keeps is not None and not keeps.as_int()):
            return False
        return axes.size == 1 and self._last(node, int(axes.reshape(-1)[0]))

    def _last(self, node: ir.Node, axis: int | None) -> bool:
        """Whether an axis is that of the channels."""
        rank = self.ranks.get(node.inputs[0]) if node.inputs[0] is not None else None
        return rank is not None and rank > 2 and axis in (-1, rank - 1)

    def _rank_of(self, node: ir.Node, read: Sequence[int]) -> int:
        value = node.inputs[read[0]]
        assert value is not None
        if node.op_type == "Gather" and read == (1,):
            return self.ranks[value] + _rank(node.inputs[0]) - 1
        return max(self.ranks[v] for at in read if (v := node.inputs[at]) is not None)


def select_first(node: ir.Node) -> bool:
    """Whether a node takes the first token of each row: Gather(x, 0, axis=1) or x[:, 0:1]."""
    if node.op_type == "Gather":
        at = constant(node.inputs[1])
        return (
            _axis(node, 0) == 1 and at is not None and at.size == 1 and int(at.reshape(-1)[0]) == 0
        )
    if node.op_type != "Slice" or len(node.inputs) < 4:
        return False
    arrays = [constant(value) for value in node.inputs[1:]]
    if any(array is None or array.size != 1 for array in arrays):
        return False
    start, end, axis, *step = (int(array.reshape(-1)[0]) for array in arrays if array is not None)
    return (start, end, axis) == (0, 1, 1) and step in ([], [1])


def readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Nodes that read a value, each with the index of the input, in one order in every run."""
    # the same inputs give the same bytes: the order of readers is that of new nodes
    for use in sorted(value.uses(), key=lambda use: (str(use.node.name), use.idx)):
        yield use.node, use.idx


def _kind(axes: TokenAxes, node: ir.Node, at: int) -> str | None:
    value = node.inputs[at] if at < len(node.inputs) else None
    return None if value is None else axes.kinds.get(value)


def _axis(node: ir.Node, default: int | None = None) -> int | None:
    found = node.attributes.get("axis")
    return default if found is None else found.as_int()


def _rank(value: ir.Value | None) -> int:
    """Number of dimensions of a constant; -1 where it is not known."""
    if value is None:
        return -1
    if value.const_value is not None:
        return len(value.const_value.shape)
    if value.shape is not None:
        return len(value.shape)
    # the weight of a Q/DQ pair is what a DequantizeLinear of a constant makes
    node = value.producer()
    return _rank(node.inputs[0]) if node is not None and node.op_type in _ROUNDING else -1


def _of_channels(value: ir.Value, rank: int) -> bool:
    """Whether a constant is the same for every token of a tensor of this rank."""
    own = _rank(value)
    if own < 0 or own > rank:
        return False
    if own <= rank - 2:
        return True
    # with sizes in the places of rows or tokens it would differ from token to token
    shape = value.const_value.shape if value.const_value is not None else value.shape
    assert shape is not None
    leading = list(shape)[: own - (rank - 2)]
    return all(size == 1 for size in leading)
