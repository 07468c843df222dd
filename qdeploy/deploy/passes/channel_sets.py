"""Which channel axes of a graph are tied, and which sets of them may be reordered.

The channels of two tensors are tied when one is computed from the other channel by channel: sums,
LayerNormalization, activation functions. A set of tied axes (for a BERT the whole residual stream,
or the inner side of one feed-forward block) may be reordered freely when every axis that touches it
belongs to a constant: embedding tables, γ and β, biases, rows and columns of weights. An operator
that moves channels in any other way (the split into heads) freezes the set.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from qdeploy.graph.sites import ACTIVATION_FUNCTIONS
from qdeploy.graph.structure import Structure
from qdeploy.types import Array

Axis = tuple[str, int]  # value name and axis; −1 for the last

_CHANNELWISE = ACTIVATION_FUNCTIONS | {"Identity", "Dropout", "Sqrt", "Neg", "Abs", "Exp"}
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Pow", "Where"})
_TOKENWISE = frozenset({"Gather", "Slice"})  # on an axis that is not the last


class ChannelSets:
    """The sets of tied channel axes of one model (union-find)."""

    def __init__(self, model: ir.Model, structure: Structure) -> None:
        self._graph = model.graph
        self._parent: dict[Axis, Axis] = {}
        self._frozen: set[Axis] = set()
        gemms = {gemm.node: gemm for gemm in structure.gemms}
        for node in model.graph:
            if str(node.name) in gemms:
                self._tie_gemm(node, gemms[str(node.name)].transposed)
            else:
                self._tie(node)
        for output in model.graph.outputs:
            # What leaves the graph keeps its order.
            self._freeze(output)

    def free_set(self, tensor: str) -> Axis | None:
        """The set of a tensor's channels, or None where something freezes it."""
        # Sets were joined after some of their axes were frozen: roots are looked up now.
        root = self._find((tensor, -1))
        frozen = {self._find(axis) for axis in self._frozen}
        return None if root in frozen else root

    def reorder(self, root: Axis, order: Array) -> None:
        """Put channel `order[i]` at place i along every constant axis of the set."""
        for axis in [a for a in self._parent if self._find(a) == root]:
            value = self._graph.initializers.get(axis[0])
            if value is None or value.const_value is None:
                continue
            # A new tensor, as clones share the old one.
            array = np.take(value.const_value.numpy(), order, axis=axis[1])
            value.const_value = ir.Tensor(np.ascontiguousarray(array), name=value.name)

    def _tie_gemm(self, node: ir.Node, transposed: bool) -> None:
        # A GEMM takes channels in and makes others: its weight's rows are of the set in front, its
        # columns and its bias of the set behind.
        source, weight = node.inputs[0], node.inputs[1]
        assert source is not None and weight is not None
        rows, columns = (1, 0) if transposed else (0, 1)
        self._union(_last(source), (str(weight.name), rows))
        self._union(_last(node.outputs[0]), (str(weight.name), columns))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            self._union(_last(node.outputs[0]), (str(node.inputs[2].name), -1))

    def _tie(self, node: ir.Node) -> None:
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "LayerNormalization" and node.attributes.get_int("axis", -1) == -1:
            # Mean and deviation are the same in any order of channels; γ and β are per channel.
            self._tie_all([*inputs, node.outputs[0]])
        elif node.op_type in _CHANNELWISE:
            self._tie_all([inputs[0], node.outputs[0]])
        elif node.op_type in _ELEMENTWISE:
            self._tie_elementwise(node, inputs)
        elif (
            node.op_type == "Gather"
            and inputs[0].is_initializer()
            and node.attributes.get_int("axis", 0) == 0
        ):
            # Rows of an embedding table: its columns are the channels.
            self._union(_last(node.outputs[0]), (str(inputs[0].name), 1))
        elif node.op_type in _TOKENWISE and self._keeps_channels(node, inputs):
            self._union(_last(inputs[0]), _last(node.outputs[0]))
        else:
            # Unknown, or it moves channels itself, as the Reshape into heads does.
            for value in (*inputs, *node.outputs):
                self._freeze(value)

    def _tie_elementwise(self, node: ir.Node, inputs: list[ir.Value]) -> None:
        out = node.outputs[0]
        size = _size(out)
        for value in inputs:
            # A scalar, or one number per token, meets every channel alike.
            if value.shape is not None and value.shape.rank() and _size(value) != 1:
                if size is None or _size(value) != size:
                    self._freeze(value)
                    self._freeze(out)
                self._union(_last(value), _last(out))
        if size is None:
            self._freeze(out)

    def _keeps_channels(self, node: ir.Node, inputs: list[ir.Value]) -> bool:
        source = inputs[0]
        if source.is_initializer() or source.shape is None or _size(source) is None:
            return False
        last = source.shape.rank() - 1
        if node.op_type == "Gather":
            return node.attributes.get_int("axis", 0) % source.shape.rank() != last
        axes = inputs[3].const_value if len(inputs) > 3 else None
        return axes is not None and last not in {
            int(a) % source.shape.rank() for a in axes.numpy().ravel()
        }

    def _tie_all(self, values: Iterable[ir.Value]) -> None:
        first, *others = values
        for other in others:
            self._union(_last(first), _last(other))

    def _freeze(self, value: ir.Value) -> None:
        # Which axis of a constant holds the channels is not known here: all of them.
        rank = value.shape.rank() if value.is_initializer() and value.shape is not None else 1
        for axis in (-1, *range(rank)):
            self._frozen.add((str(value.name), axis))
            self._find((str(value.name), axis))

    def _find(self, axis: Axis) -> Axis:
        root = self._parent.setdefault(axis, axis)
        while root != self._parent[root]:
            root = self._parent[root]
        self._parent[axis] = root
        return root

    def _union(self, a: Axis, b: Axis) -> None:
        ra, rb = self._find(a), self._find(b)
        if ra != rb:
            self._parent[ra] = rb


def _last(value: ir.Value) -> Axis:
    return (str(value.name), -1)


def _size(value: ir.Value) -> int | None:
    if value.shape is None or value.shape.rank() == 0:
        return None
    last = value.shape[-1]
    return last if isinstance(last, int) else None
