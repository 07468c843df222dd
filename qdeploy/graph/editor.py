"""Small edits of an ONNX graph that the lowerings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from qdeploy.types import Array

# Of the attributes that a node may have, those that the lowerings write.
Attribute: TypeAlias = str | int | float | Sequence[int] | Sequence[float]
MICROSOFT = "com.microsoft"


class GraphEditor:
    """Adds nodes and constants to one graph under names that stay unique and readable."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self.values = ir.convenience.create_value_mapping(model.graph)  # of bodies too
        self._names = set(self.values) | {str(node.name) for node in model.graph}
        self._tape = ir.tape.Tape(model.graph)

    def unique(self, name: str) -> str:
        """`name`, with a number behind it where it is taken."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate

    def constant(self, name: str, array: Array) -> ir.Value:
        """A new initializer."""
        tensor = ir.Tensor(np.asarray(array, order="C"), name=self.unique(name))
        return self._tape.initializer(tensor)

    def node(
        self,
        op_type: str,
        inputs: list[ir.Value | None],
        name: str,
        *,
        outputs: int = 1,
        domain: str = "",
        dtype: ir.DataType = ir.DataType.FLOAT,
        like: ir.Value | None = None,
        **attributes: Attribute,
    ) -> ir.Node:
        """A new node at the end of the graph (`finish` sorts); its outputs take the node's name.

        Args:
            dtype: element type of the first output.
            like: a value whose shape the first output has.
        """
        name = self.unique(name)
        # Not `Tape.op`: it gives the output alone, and lowerings keep the node.
        node = ir.node(
            op_type,
            inputs,
            attributes or None,
            domain=domain,
            num_outputs=outputs,
            name=name,
        )
        for index, value in enumerate(node.outputs):
            value.name = self.unique(f"{name}_out" if index == 0 else f"{name}_out{index}")
        node.outputs[0].type = ir.TensorType(dtype)
        if like is not None and like.shape is not None:
            node.outputs[0].shape = like.shape.copy()
        self.graph.append(node)
        return node

    def replace_uses(self, old: ir.Value, new: ir.Value, *, besides: set[ir.Node]) -> None:
        """Let every reader of `old` read `new`, but for the nodes in `besides`."""
        # `Value.replace_all_uses_with` leaves out nobody: `new` itself may be computed from `old`.
        for node, at in old.uses():
            if node not in besides:
                node.replace_input_with(at, new)

    def take_over(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` stand for `old` everywhere, as a graph output under the same name too."""
        was_output = old.is_graph_output()
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if was_output:
            name = str(old.name)
            # An output's name is the model's interface: it goes to the value that is one now.
            old.name = self.unique(f"{name}_float")
            new.name, new.shape, new.type = name, old.shape, old.type

    def finish(self) -> ir.Model:
        """Sort the graph, drop what nothing reads, and declare the operator sets."""
        TopologicalSortPass()(self.model)
        RemoveUnusedNodesPass()(self.model)
        if any(node.domain == MICROSOFT for node in self.graph):
            self.graph.opset_imports[MICROSOFT] = 1
        return self.model
