"""Small edits of a graph that the steps of this room share."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from qdeploy.exporter.canonical import SCOPES as SCOPES  # for the steps of this room
from qdeploy.types import Array

STANDARD = ("", "ai.onnx")


class Edit:
    """Adds nodes and constants to one graph; `finish` sorts it and drops what nothing reads."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self._names = set(ir.convenience.create_value_mapping(model.graph))
        self._names |= {str(node.name) for node in model.graph}
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

    def integers(self, name: str, numbers: Sequence[int]) -> ir.Value:
        """A new initializer, int64 [N]."""
        return self.constant(name, np.array(numbers, np.int64))

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        like: ir.Node | None = None,
        *,
        name: str | None = None,
        **attributes: str | int | float | Sequence[int],
    ) -> ir.Value:
        """The output of a new node at the end of the graph.

        Args:
            like: a node whose module the new one belongs to.
            name: of the node; made of the other's where left out.
        """
        base = name or f"{like.name if like is not None and like.name else ''}/{op_type}"
        node = ir.node(op_type, inputs, attributes or None, name=self.unique(base))
        node.outputs[0].name = self.unique(f"{node.name}_output_0")
        if like is not None and SCOPES in like.metadata_props:
            node.metadata_props[SCOPES] = like.metadata_props[SCOPES]
        self.graph.append(node)
        return node.outputs[0]

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` stand for `old` everywhere, as an output of the graph under its name too."""
        was_output, name = old.is_graph_output(), str(old.name)
        new.shape, new.type = new.shape or old.shape, new.type or old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if was_output:
            old.name = self.unique(f"{name}_before")
            new.name = name

    def finish(self) -> None:
        """Sort the graph, and drop nodes and constants that nothing reads."""
        TopologicalSortPass()(self.model)
        RemoveUnusedNodesPass()(self.model)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Hold back what onnxscript logs of nodes that it leaves alone."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def is_standard(node: ir.Node, *kinds: str) -> bool:
    """Whether a node is one of these operators of ONNX itself."""
    return node.domain in STANDARD and node.op_type in kinds


def given(node: ir.Node, at: int) -> ir.Value | None:
    """An input of a node, None where it is left out."""
    value = node.inputs[at] if at < len(node.inputs) else None
    return value if value is not None and value.name != "" else None


def array_of(value: ir.Value | None) -> Array | None:
    """The array of an initializer or of a Constant node; None for a computed value."""
    if value is None:
        return None
    try:
        tensor = ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant node without a value, or with two
        return None
    return None if tensor is None else tensor.numpy()


def number_of(value: ir.Value | None) -> float | None:
    """The only number of a constant; None for anything else."""
    array = array_of(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def readers(value: ir.Value) -> list[ir.Node]:
    """Nodes that read a value, each once, in one order in every run."""
    found = {use.node: None for use in value.uses()}
    return sorted(found, key=lambda node: str(node.name))


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads a value, which is no output of the graph."""
    found = readers(value)
    return found[0] if len(found) == 1 and not value.is_graph_output() else None
