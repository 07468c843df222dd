"""Every product with a constant operand in an ONNX graph, found by what depends on the inputs.

A certificate is held against these, not against what was planned: a weight behind a Transpose, in
the body of an If, in a function or in a Conv is work that may run in float all the same. An operand
is constant when no number of an input reaches it, whatever nodes it passes: a table that is cut to
the length of a row, or the weights of a layer in a loop over layers, are constants too. A product
that depends on nothing, not even on shapes, is none: runtimes compute it once, at load.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from qdeploy.graph.constants import constant_tensor
from qdeploy.graph.product_operators import (
    CLASSICAL,
    RANDOM,
    SHAPES_ONLY,
    STANDARD,
    TYPE_ONLY,
    Operands,
    kind_of,
    operands_of,
)


@dataclass(frozen=True)
class Product:
    """A node that multiplies something computed with something constant.

    Attributes:
        node: of the graph, or of a body in it.
        operands: which of its inputs are multiplied with each other.
        constants: those of them that no number of an input reaches.
        optional: in a branch that some inputs take and others do not, or a loop that may not run.
        judged: False for an operator that is not known, whose FLOPs are an estimate.
    """

    node: ir.Node
    operands: Operands
    constants: Operands
    optional: bool
    judged: bool = True

    @property
    def name(self) -> str:
        """Of the node, or of its output where it has none."""
        return str(self.node.name or self.node.outputs[0].name)

    @property
    def operator(self) -> str:
        """The node's operator, with its domain where that is not ONNX's own."""
        domain = self.node.domain
        return self.node.op_type if domain in STANDARD else f"{domain}.{self.node.op_type}"

    @property
    def entries(self) -> int:
        """Numbers of its weight: every one is met once by every row."""
        attributes = self.node.attributes
        if "K" in attributes and "N" in attributes:  # MatMulNBits stores its weight in blocks
            return attributes["K"].as_int() * attributes["N"].as_int()
        if self.node.domain == CLASSICAL:
            return max(map(_attribute_size, attributes.values()), default=0)
        return sum(_entries(self.node.inputs[at]) for at in self.constants)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the initializers behind its constant operands."""
        found: dict[str, None] = {}
        for at in self.constants:
            found |= dict.fromkeys(_initializers(self.node.inputs[at]))
        return tuple(found)


def find_products(model: ir.Model) -> list[Product]:
    """The products of a graph and of the bodies in it, in order; calls of functions are not
    followed (inline them first)."""
    return _Search().graph(model.graph, optional=False)


class _Level(enum.IntEnum):
    """What a tensor depends on.

    CONSTANT: nothing; computed once, at load. SHAPE: the shapes of the inputs, or the pass of a
    loop; computed in every run, from constants alone. DATA: the numbers of an input.
    """

    CONSTANT = 0
    SHAPE = 1
    DATA = 2


class _Search:
    """One pass over a graph, which knows what each tensor depends on."""

    def __init__(self) -> None:
        self._levels: dict[ir.Value, _Level] = {}

    def graph(self, graph: ir.Graph, *, optional: bool) -> list[Product]:
        """The products of the main graph: its inputs are data.

        An initializer that is listed as an input too is its default, and almost always its value.
        """
        inputs = (value for value in graph.inputs if not value.is_initializer())
        self._levels |= dict.fromkeys(inputs, _Level.DATA)
        return self._nodes(graph, optional=optional)

    def _level(self, value: ir.Value | None) -> _Level:
        return _Level.CONSTANT if value is None else self._levels.get(value, _Level.CONSTANT)

    def _nodes(self, graph: ir.Graph, *, optional: bool) -> list[Product]:
        found: list[Product] = []
        for node in graph:
            level = self._read(node)
            for body in _bodies(node):
                inside, reached = self._body(node, body, optional=optional)
                found += inside
                level = max(level, reached)
            product = self._product(node, optional=optional)
            if product is not None:
                found.append(product)
            self._levels |= dict.fromkeys(node.outputs, level)
        return found

    def _read(self, node: ir.Node) -> _Level:
        """What a node's outputs depend on, besides what its bodies reach."""
        if node.op_type in RANDOM:
            return _Level.DATA
        levels = [
            self._level(value)
            for at, value in enumerate(node.inputs)
            if TYPE_ONLY.get(node.op_type) != at
        ]
        level = max(levels, default=_Level.CONSTANT)
        return min(level, _Level.SHAPE) if node.op_type in SHAPES_ONLY else level

    def _body(
        self, node: ir.Node, body: ir.Graph, *, optional: bool
    ) -> tuple[list[Product], _Level]:
        """The products of a body, and what its outputs depend on.

        A loop's state is at least what it was before the loop, and what the body makes of it.
        """
        if node.op_type == "If":
            # The inputs decide which branch runs, unless the condition is constant.
            branches = optional or self._level(node.inputs[0]) > _Level.CONSTANT
            found = self._nodes(body, optional=branches)
            return found, max(map(self._level, body.outputs), default=_Level.CONSTANT)
        trips = [self._level(value) for value in node.inputs[:2]] if node.op_type == "Loop" else []
        may_stop = optional or max(trips, default=_Level.CONSTANT) > _Level.CONSTANT
        fed = dict.fromkeys(body.inputs, _Level.SHAPE)  # differs from pass to pass
        own = 2 if node.op_type == "Loop" else 0  # the number of the pass, and whether to go on
        for inner, value in zip(body.inputs[own:], node.inputs[own:], strict=False):
            fed[inner] = max(_Level.SHAPE, self._level(value))
        states = body.inputs[1:]
        if "num_scan_inputs" in node.attributes:  # Scan: states first, then what is sliced
            slices = node.attributes["num_scan_inputs"].as_int()
            states = body.inputs[: len(body.inputs) - slices]
        # A pass of the loop reads what the one before made of the states: until none rises any
        # more, which comes soon, as there are three levels.
        while True:
            self._levels |= fed
            found = self._nodes(body, optional=may_stop)
            made = list(zip(states, body.outputs, strict=False))
            raised = {s: self._level(o) for s, o in made if self._level(o) > self._level(s)}
            if not raised:
                return found, max(map(self._level, body.outputs), default=_Level.CONSTANT)
            fed |= raised

    def _product(self, node: ir.Node, *, optional: bool) -> Product | None:
        if node.domain == CLASSICAL:
            read = any(self._level(value) == _Level.DATA for value in node.inputs)
            size = max(map(_attribute_size, node.attributes.values()), default=0)
            return Product(node, (0,), (), optional, judged=False) if read and size > 1 else None
        kind = kind_of(node)
        operands = operands_of(node, kind)
        given = [at for at in operands if at < len(node.inputs) and node.inputs[at] is not None]
        levels = {at: self._level(node.inputs[at]) for at in given}
        fixed = tuple(at for at in given if levels[at] == _Level.CONSTANT)
        if not fixed:  # a table that is cut to the length of a row, at the latest
            fixed = tuple(at for at in given if levels[at] == _Level.SHAPE)[-1:]
        # No operand is constant (attention), or all are: that is computed once, at load.
        if not fixed or len(fixed) == len(given):
            return None
        # Of an operator that is not known: a matrix among its constants makes it a product.
        if not kind and not any(_rank(node.inputs[at]) >= 2 for at in fixed):
            return None
        return Product(node, tuple(given), fixed, optional, bool(kind))


def _attribute_size(attribute: ir.Attr) -> int:
    return len(attribute.value) if attribute.type == ir.AttributeType.FLOATS else 0


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else value.shape.rank()


def _entries(value: ir.Value | None) -> int:
    """Numbers of a constant, or of the largest one that it is computed from."""
    tensors = map(constant_tensor, _sources(value))
    return max((int(tensor.size) for tensor in tensors if tensor is not None), default=0)


def _initializers(value: ir.Value | None) -> list[str]:
    """Names of the initializers and constants that a value is computed from, in order."""
    return [str(source.name) for source in _sources(value)]


def _sources(value: ir.Value | None) -> Iterator[ir.Value]:
    """Initializers and constants that a value is computed from, each once, depth first."""
    pending, met = [value], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in met:
            continue
        met.add(value)
        node = value.producer()
        if node is None or constant_tensor(value) is not None:
            yield value
        else:
            pending += reversed(node.inputs)
