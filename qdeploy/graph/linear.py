"""Sites whose channels come from a GEMM by mixing tokens alone: the context behind attention.

Channel c of probabilities × value is a sum over tokens of channel c of the value, so a factor on it
is a factor on column c of the value's weight: it costs nothing at run time.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from qdeploy.graph.structure import Gemm

_LAYOUT = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"})


def linear_sources(graph: ir.Graph, gemms: tuple[Gemm, ...]) -> dict[str, str]:
    """By GEMM input: the GEMM whose output channels it has, in the same places or others.

    Nothing else may read any tensor on the way. That channel c is channel c is not decided here:
    heads that are laid out in another order would pass, and are found by running both graphs.
    """
    writers = {gemm.output: gemm for gemm in gemms}
    products = {gemm.node for gemm in gemms}
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    reads = Counter(gemm.weight for gemm in gemms)  # layers of some encoders share them
    found = {}
    for gemm in gemms:
        source = _behind(values.get(gemm.input), writers, products)
        if source is None or reads[source.weight] > 1 or reads[gemm.weight] > 1:
            continue
        if source.n == gemm.k:
            found[gemm.input] = source.name
    return found


def _behind(value: ir.Value | None, writers: dict[str, Gemm], products: set[str]) -> Gemm | None:
    first = True
    while value is not None and (first or _read_once(value)):
        if not first and str(value.name) in writers:
            return writers[str(value.name)]
        node = value.producer()
        if node is None:
            return None
        if node.op_type in _LAYOUT:
            value = node.inputs[0]
        # Probabilities · value mixes tokens and keeps channels; a GEMM would mix those.
        elif node.op_type == "MatMul" and str(node.name) not in products:
            value = node.inputs[1]
        else:
            return None
        first = False
    return None


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()
