"""Sites: where a tensor of a canonical graph may be quantized, found by structure alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from qdeploy.errors import ModelError
from qdeploy.graph.gemms import TOKENS, find_gemms, module_of, unique_name
from qdeploy.graph.linear import linear_sources
from qdeploy.graph.products import find_products
from qdeploy.graph.structure import (
    ACTIVATION,
    ATTENTION_OPERAND,
    ATTENTION_OUTPUT,
    GEMM_INPUT,
    GEMM_OUTPUT,
    LAYER_NORM,
    RESIDUAL,
    SOFTMAX,
    FeedForward,
    Gemm,
    Site,
    Structure,
    Table,
)

ACTIVATION_FUNCTIONS = frozenset(
    {"Gelu", "Relu", "Tanh", "Sigmoid", "Elu", "LeakyRelu", "HardSwish", "Mish", "Swish", "Erf"}
)
SHAPE_OPERATORS = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast"})
# Add and Pow are of the Gelu that is written out (0.5 x (1 + tanh(…)), as ALBERT has it).
_FFN_PATH = ACTIVATION_FUNCTIONS | {"Mul", "Split", "Slice", "Identity", "Add", "Pow"}


def find_structure(model: ir.Model, path: Path | None = None) -> Structure:
    """Find GEMMs, embedding tables and activation sites of a canonical graph.

    Args:
        path: of the model, for the error.

    Raises:
        ModelError: the graph has no constant-weight GEMM, so there is nothing to quantize.
    """
    products = find_products(model)
    gemms = tuple(find_gemms(model.graph, products))
    if not gemms:
        raise ModelError(
            f"{path or 'The graph'} has no matrix product with a constant weight: nothing can be "
            "quantized. "
            "Was it made by `qdeploy export`?"
        )
    sites = tuple(_sites(model.graph, gemms))
    known = {gemm.node for gemm in gemms}
    others = sum(product.entries for product in products if product.name not in known)
    return Structure(
        sites=sites,
        gemms=gemms,
        tables=tuple(_tables(model.graph)),
        feed_forwards=tuple(_feed_forwards(model.graph, gemms)),
        linear_sources=linear_sources(model.graph, gemms),
        by_tensor={site.tensor: site for site in sites},
        other_flops=2 * TOKENS * others,
        other_weights=others,
    )


def _tables(graph: ir.Graph) -> Iterator[Table]:
    for node in graph:
        # Rows that computed ids name: along another axis, or at fixed places, it is a slice.
        if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
            continue
        table, index = node.inputs[0], node.inputs[1]
        if table is None or index is None or not table.is_initializer() or index.is_initializer():
            continue
        if table.shape is None or table.shape.rank() != 2 or table.dtype != ir.DataType.FLOAT:
            continue
        rows, columns = table.shape.numpy()
        name = str(table.name).removesuffix(".weight")
        yield Table(name, str(node.name), str(table.name), rows, columns)


def _sites(graph: ir.Graph, gemms: tuple[Gemm, ...]) -> Iterator[Site]:
    roles = _roles(graph, gemms)
    inputs: dict[str, str] = {}
    for gemm in gemms:
        # Of several that read it (query, key and value) the first gives the name.
        inputs.setdefault(gemm.input, gemm.name)
    outputs = {gemm.output: gemm.name for gemm in gemms}
    taken: set[str] = set()
    for value in (value for node in graph for value in node.outputs):
        name = str(value.name)
        if name not in roles:
            continue
        channels, axes = _axes(value)
        label = _site_name(value, inputs.get(name), outputs.get(name))
        yield Site(unique_name(label, taken), name, frozenset(roles[name]), channels, axes)


def _roles(graph: ir.Graph, gemms: tuple[Gemm, ...]) -> dict[str, set[str]]:
    roles: dict[str, set[str]] = {}

    def add(value: ir.Value | None, role: str) -> None:
        # Neither a constant nor an input of the graph is a site, and an output keeps its precision.
        if value is not None and value.producer() is not None and not value.is_graph_output():
            roles.setdefault(str(value.name), set()).add(role)

    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    for gemm in gemms:
        add(values.get(gemm.input), GEMM_INPUT)
        add(values.get(gemm.output), GEMM_OUTPUT)
    gemm_nodes = {gemm.node for gemm in gemms}
    for node in graph:
        out = node.outputs[0]
        if node.op_type == "LayerNormalization":
            add(out, LAYER_NORM)
        elif node.op_type in ACTIVATION_FUNCTIONS:
            add(out, ACTIVATION)
        elif node.op_type == "Softmax":
            add(out, SOFTMAX)
        # Two computed tensors: scores, or probabilities · value.
        elif node.op_type == "MatMul" and node.name not in gemm_nodes:
            for value in node.inputs:
                add(value, ATTENTION_OPERAND)
            add(out, ATTENTION_OUTPUT)
        # A sum of two streams is a residual; a product of two is the gate of a feed-forward block.
        elif node.op_type in ("Add", "Mul") and _joins_streams(node):
            add(out, RESIDUAL if node.op_type == "Add" else ACTIVATION)
    _drop_reshaped(values, roles)
    return roles


def _joins_streams(node: ir.Node) -> bool:
    """True for an elementwise node of two computed tensors with the same static last axis."""
    sizes = []
    for value in node.inputs:
        if value is None or value.is_initializer() or value.shape is None:
            return False
        if value.dtype not in (ir.DataType.FLOAT, None) or value.shape.rank() < 3:
            return False
        # Scores and masks end in the sequence, which is no number here: they are no streams.
        sizes.append(value.shape[-1])
    return len(sizes) == 2 and isinstance(sizes[0], int) and sizes[0] == sizes[1] and sizes[0] > 1


def _drop_reshaped(values: dict[str, ir.Value], roles: dict[str, set[str]]) -> None:
    """A tensor that only rearranges another site holds the same numbers: one Q/DQ is enough."""
    for name in list(roles):
        origin = shape_origin(values[name])
        if origin is not None and str(origin.name) in roles and str(origin.name) != name:
            if GEMM_INPUT in roles[name]:
                # The GEMM needs its own input quantized; the un-rearranged twin gives way.
                roles[str(origin.name)].discard(ATTENTION_OUTPUT)
                if not roles[str(origin.name)]:
                    del roles[str(origin.name)]
            else:
                del roles[name]


def shape_origin(value: ir.Value) -> ir.Value | None:
    """The tensor that a chain of Reshape and Transpose nodes starts from, or None without one."""
    current, moved = value, False
    while (node := current.producer()) is not None and node.op_type in SHAPE_OPERATORS:
        source = node.inputs[0]
        if source is None or source.is_initializer():
            return None
        current, moved = source, True
    return current if moved else None


def _axes(value: ir.Value) -> tuple[int, tuple[int, ...]]:
    if value.shape is None:
        return 1, ()
    dims = list(value.shape)
    dynamic = tuple(i for i, d in enumerate(dims) if i > 0 and not isinstance(d, int))
    last = dims[-1] if dims else 1
    # [B, S, C] and [B, C] have channels; [B, heads, S, d] shares d between heads and has none.
    channels = int(last) if isinstance(last, int) and len(dims) <= 3 else 1
    return channels, dynamic


def _site_name(value: ir.Value, reader: str | None, writer: str | None) -> str:
    if reader is not None:
        return f"{reader}.input"
    if writer is not None:
        return f"{writer}.output"
    node = value.producer()
    assert node is not None
    if node.op_type == "LayerNormalization":
        return f"{_norm_name(node)}.output"
    for use in value.uses():
        if use.node.op_type == "LayerNormalization" and use.idx == 0:
            return f"{_norm_name(use.node)}.input"
    return f"{module_of(node)}.{node.op_type.lower()}"


def _norm_name(node: ir.Node) -> str:
    scale = node.inputs[1]
    name = "" if scale is None else str(scale.name)
    return name.removesuffix(".weight") if name.endswith(".weight") else module_of(node)


def _feed_forwards(graph: ir.Graph, gemms: tuple[Gemm, ...]) -> Iterator[FeedForward]:
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    by_output = {gemm.output: gemm for gemm in gemms}
    for second in gemms:
        start = values.get(second.input)
        output = values.get(second.output)
        if start is None or output is None:
            continue
        first = _gemm_behind(start, by_output)
        residual = _residual_after(output)
        if first is not None and residual is not None:
            yield FeedForward(first.input, second.output, str(residual.name))


def _gemm_behind(value: ir.Value, by_output: dict[str, Gemm]) -> Gemm | None:
    """The GEMM whose output reaches `value` through activation functions and gates only."""
    pending, passed_activation = [value], False
    while pending:
        current = pending.pop()
        if str(current.name) in by_output:
            # Without an activation function between them the two are no feed-forward block.
            if passed_activation:
                return by_output[str(current.name)]
            continue
        node = current.producer()
        if node is None or node.op_type not in _FFN_PATH:
            continue
        passed_activation = passed_activation or node.op_type in ACTIVATION_FUNCTIONS
        pending.extend(_computed(node.inputs))
    return None


def _computed(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [v for v in values if v is not None and not v.is_initializer()]


def _residual_after(value: ir.Value) -> ir.Value | None:
    for use in value.uses():
        if use.node.op_type == "Add" and _joins_streams(use.node):
            return use.node.outputs[0]
    return None
