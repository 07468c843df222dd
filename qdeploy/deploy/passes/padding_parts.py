"""Which nodes of a graph run without padding: token-wise ones around GEMMs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qdeploy.deploy.passes.token_axes import PRODUCTS, TokenAxes, readers


def token_parts(model: ir.Model, axes: TokenAxes, mask: ir.Value) -> list[ir.Node]:
    """The nodes that run on [1, T, …], in order.

    Args:
        model: its nodes stand in order.
        axes: its token tensors.
        mask: the input that says which tokens are real, [B, S].
    """
    parts = _behind_neighbours(_with_gemms(model, axes), axes)
    return _before_masks(parts, axes, _masks(model, mask))


def _with_gemms(model: ir.Model, axes: TokenAxes) -> list[ir.Node]:
    """Token-wise nodes of the parts that hold a GEMM, in order."""
    # tensors [B, S] are ids, masks and positions: padding matters to those who count in them
    nodes = [node for node in model.graph if axes.ranks.get(node.outputs[0], 0) > 2]
    nodes = [node for node in nodes if node in axes.operands]
    part = {node: node for node in nodes}

    def root(node: ir.Node) -> ir.Node:
        while part[node] is not node:
            part[node] = part[part[node]]
            node = part[node]
        return node

    # union of makers and readers: a part is what tokens pass through without a break
    for node in nodes:
        for at in axes.operands[node]:
            value = node.inputs[at]
            maker = value.producer() if value is not None else None
            if maker in part:
                part[root(node)] = root(maker)
    # sums in front of the first GEMM alone are not worth a gather
    working = {root(node) for node in nodes if node.op_type in PRODUCTS}
    return [node for node in nodes if root(node) in working]


def _behind_neighbours(parts: list[ir.Node], axes: TokenAxes) -> list[ir.Node]:
    """Without nodes in front whose output others read too.

    MobileBERT's embeddings are read with those of the tokens beside, padding among them: they stay
    as they are, and the part begins behind them.
    """
    inside: dict[ir.Node, None] = {}
    for node in parts:
        sources = [node.inputs[at] for at in axes.operands[node]]
        in_front = all(value is None or value.producer() not in inside for value in sources)
        if in_front and any(reader not in axes.operands for reader in _all_readers(node)):
            continue
        inside[node] = None
    return list(inside)


def _masks(model: ir.Model, mask: ir.Value) -> set[ir.Value]:
    """Tensors that are computed of the mask, of shapes and of constants alone."""
    constants, found = set(model.graph.initializers.values()), {mask}
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "Shape" or all(value in constants for value in inputs):
            constants.update(node.outputs)
        elif all(value in constants or value in found for value in inputs):
            found.update(node.outputs)
    return found


def _before_masks(parts: list[ir.Node], axes: TokenAxes, masks: set[ir.Value]) -> list[ir.Node]:
    """Without nodes behind the last GEMM that tell padding from tokens, and what follows them.

    Pooling takes a sum or a maximum over tokens behind such a node. It sets padding to 0, or to the
    least number there is, which packed rows have not got to give back.
    """
    leads = set[ir.Node]()
    for node in reversed(parts):
        if node.op_type in PRODUCTS or any(r in leads for r in _all_readers(node)):
            leads.add(node)
    gone = set[ir.Node]()
    for node in parts:
        read = [node.inputs[at] for at in axes.operands[node]]
        behind = any(value is not None and value.producer() in gone for value in read)
        if node not in leads and (behind or any(value in masks for value in node.inputs)):
            gone.add(node)
    return [node for node in parts if node not in gone]


def _all_readers(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.outputs:
        for reader, _ in readers(value):
            yield reader
