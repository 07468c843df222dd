"""Where a graph is cut for `segments`: behind every site, and what passes each cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qdeploy.graph.structure import Site, Structure


@dataclass(frozen=True)
class Cut:
    """A graph that is ready to be cut.

    Attributes:
        graph: a copy in which the readers of site i read the names of `copies(i)`.
        sites: in the order of their producers; segment i ends with site i, and one more with the
            first output.
        inputs, outputs: names that each segment reads and writes, but for constants.
    """

    graph: ir.Graph
    sites: tuple[Site, ...]
    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]


def copies(index: int) -> tuple[str, str]:
    """Names under which the GEMMs, and the other readers, read site number `index`."""
    return f"qdeploy_{index}_gemms", f"qdeploy_{index}_others"


def cut_behind_sites(model: ir.Model, structure: Structure) -> Cut:
    """The cuts of a canonical model, which is not changed."""
    graph = model.clone().graph
    graph.sort()
    values = {str(value.name): value for node in graph for value in node.outputs}
    order = {node: at for at, node in enumerate(graph)}
    ends = {site.tensor: order[_producer(values[site.tensor])] for site in structure.sites}
    sites = tuple(sorted(structure.sites, key=lambda site: ends[site.tensor]))
    owner = _owners(len(order), [ends[site.tensor] for site in sites])
    segment_of = {str(v.name): owner[order[node]] for node in order for v in node.outputs}
    segment_of |= {str(value.name): -1 for value in graph.inputs}
    for index, site in enumerate(sites):
        gemms = frozenset(gemm.node for gemm in structure.consumers(site.tensor))
        _insert_copies(graph, values[site.tensor], copies(index), gemms)
        segment_of |= dict.fromkeys(copies(index), index)
    inputs = _inputs(order, owner, segment_of, len(sites) + 1)
    last = str(graph.outputs[0].name)
    return Cut(graph, sites, inputs, _outputs(inputs, segment_of, sites, last))


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _owners(nodes: int, ends: Sequence[int]) -> list[int]:
    """The segment of each node: it ends with the node at `ends`."""
    found, segment = [], 0
    for at in range(nodes):
        while segment < len(ends) and at > ends[segment]:
            segment += 1
        found.append(segment)
    return found


def _insert_copies(
    graph: ir.Graph, value: ir.Value, names: tuple[str, str], gemms: frozenset[str]
) -> None:
    """Let the readers of a value read one of two copies.

    The Identity nodes never run: each lies across a cut.
    """
    readers = list(value.uses())
    if value.type is None:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    nodes = []
    for name in names:
        node = ir.node("Identity", [value], name=name)
        node.outputs[0].name = name
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        nodes.append(node)
    graph.insert_after(_producer(value), nodes)
    for use in readers:
        chosen = nodes[0] if use.node.name in gemms else nodes[1]
        use.node.replace_input_with(use.idx, chosen.outputs[0])


def _inputs(
    order: dict[ir.Node, int], owner: Sequence[int], segment_of: dict[str, int], count: int
) -> tuple[tuple[str, ...], ...]:
    """What each segment reads of the segments before it."""
    found: list[dict[str, None]] = [{} for _ in range(count)]
    for node, at in order.items():
        for name in _read_by(node):
            if segment_of.get(name, owner[at]) < owner[at]:
                found[owner[at]][name] = None
    return tuple(tuple(names) for names in found)


def _read_by(node: ir.Node) -> Iterator[str]:
    """Names that a node reads, those inside its subgraphs too."""
    yield from (str(value.name) for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                yield from (str(value.name) for value in inner.inputs if value is not None)


def _outputs(
    inputs: Sequence[Sequence[str]],
    segment_of: dict[str, int],
    sites: Sequence[Site],
    last: str,
) -> tuple[tuple[str, ...], ...]:
    """What each segment leaves for those behind it: what they read, its site, the result."""
    found: list[dict[str, None]] = [{} for _ in inputs]
    made = {name for index in range(len(sites)) for name in copies(index)}
    for name in (*(name for names in inputs for name in names), last):
        if name not in made and segment_of[name] >= 0:
            found[segment_of[name]][name] = None
    for site in sites:
        found[segment_of[site.tensor]][site.tensor] = None
    return tuple(tuple(names) for names in found)
