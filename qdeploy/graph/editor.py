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
        self.values = {str(v.name): v for node in model.graph for v in node.outputs}
        self.values |= {str(v.name): v for v in model.graph.inputs}
        self._names = set(self.values) | set(model.graph.initializers)
        self._names |= {str(node.name) for node in model.graph}

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
        name = self.unique(name)
        tensor = ir.Tensor(np.asarray(array, order="C"), name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.graph.register_initializer(value)
        return value

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
        for use in list(old.uses()):
            if use.node not in besides:
                use.node.replace_input_with(use.idx, new)

    def take_over(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` stand for `old` everywhere, as a graph output under the same name too."""
        self.replace_uses(old, new, besides=set())
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                name = str(old.name)
                old.name = self.unique(f"{name}_float")
                new.name, new.shape, new.type = name, old.shape, old.type
                self.graph.outputs[index] = new

    def finish(self) -> ir.Model:
        """Sort the graph, drop what nothing reads, and declare the operator sets."""
        TopologicalSortPass()(self.model)
        RemoveUnusedNodesPass()(self.model)
        if any(node.domain == MICROSOFT for node in self.graph):
            self.graph.opset_imports[MICROSOFT] = 1
        return self.model
