"""Operators that only rearrange a constant, folded into it.

torch's exporter folds them up to a size, and not at all where two layers share the weight: an
ALBERT of hidden size 256 reads every weight through a Transpose, and one of hidden size 32 none.
Here each becomes an initializer at any size, one per (initializer, operation), so that all layers
of an ALBERT read the same one. The original goes when nothing else reads it, and the graph's file
does not grow; a table that is read both ways (tied embeddings) stays beside its `name.T`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from qdeploy.types import Array

Inputs = list[Array]
# An initializer, and what a node does to it: operator, attributes, bytes of its other inputs.
_Key: TypeAlias = tuple[ir.Value, str, tuple[tuple[str, str], ...], tuple[bytes, ...]]


def fold_constants(graph: ir.Graph) -> None:
    """Fold Transpose, Reshape, Cast, Identity, Squeeze and Unsqueeze of initializers, in place.

    Args:
        graph: any graph; each result has the values and the data type of the operator's output.
            A graph output stays the output of its node.
    """
    tape = ir.tape.Tape(graph)
    made: dict[_Key, ir.Value] = {}
    roots: dict[str, str] = {}  # folded initializer → the one it came from
    outputs = set(graph.outputs)
    for node in list(graph):
        operands = [value for value in node.inputs if value is not None]
        if not _folds(node, operands) or node.outputs[0] in outputs:
            continue
        arrays = [_array(value) for value in operands]
        key = _key(node, operands, arrays)
        if key not in made:
            source = str(operands[0].name)
            folded = np.ascontiguousarray(_RULES[node.op_type](node, arrays))
            name = _free(graph, source, node.op_type)
            made[key] = tape.initializer(ir.Tensor(folded, name=name))
            roots[name] = roots.get(source, source)
        node.outputs[0].replace_all_uses_with(made[key])
        graph.remove(node, safe=True)
    _drop(graph, roots)
    _rename(graph, roots)


def _folds(node: ir.Node, operands: list[ir.Value]) -> bool:
    if node.op_type not in _RULES or node.domain not in ("", "ai.onnx"):
        return False
    return bool(operands) and all(
        v.is_initializer() and v.const_value is not None for v in operands
    )


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _key(node: ir.Node, operands: list[ir.Value], arrays: Inputs) -> _Key:
    """Equal for two nodes that do the same to the same initializer."""
    attributes = tuple(sorted((a.name, repr(a.value)) for a in node.attributes.values()))
    sizes = tuple(array.tobytes() for array in arrays[1:])
    return (operands[0], node.op_type, attributes, sizes)


def _transpose(node: ir.Node, arrays: Inputs) -> Array:
    return np.transpose(arrays[0], node.attributes.get_ints("perm", None))


def _reshape(node: ir.Node, arrays: Inputs) -> Array:
    shape = [int(size) for size in arrays[1]]
    if not node.attributes.get_int("allowzero", 0):  # 0 takes the size from the input
        shape = [size or arrays[0].shape[axis] for axis, size in enumerate(shape)]
    return arrays[0].reshape(shape)


def _cast(node: ir.Node, arrays: Inputs) -> Array:
    return arrays[0].astype(ir.DataType(node.attributes["to"].as_int()).numpy())


def _squeeze(node: ir.Node, arrays: Inputs) -> Array:
    axes = tuple(int(a) for a in arrays[1]) if len(arrays) > 1 else None
    return np.squeeze(arrays[0], axes)


def _unsqueeze(node: ir.Node, arrays: Inputs) -> Array:
    return np.expand_dims(arrays[0], tuple(int(a) for a in arrays[1].ravel()))


_RULES: dict[str, Callable[[ir.Node, Inputs], Array]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Cast": _cast,
    "Identity": lambda node, arrays: arrays[0],
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


def _free(graph: ir.Graph, source: str, operator: str) -> str:
    """A name that no value of the graph has: `weight.T`, `bias.Reshape`, `bias.Reshape_2`."""
    name = f"{source}.T" if operator == "Transpose" else f"{source}.{operator}"
    taken, unique, count = graph.initializers, name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    return unique


def _drop(graph: ir.Graph, roots: dict[str, str]) -> None:
    """Remove what was folded away: originals, and steps between them and the last form."""
    for name in {*roots, *roots.values()}:
        if not graph.initializers[name].uses() and not graph.initializers[name].is_graph_output():
            del graph.initializers[name]


def _rename(graph: ir.Graph, roots: dict[str, str]) -> None:
    """The only form that is left of an initializer takes its name."""
    left = [name for name in roots if name in graph.initializers]
    for name in left:
        root = roots[name]
        if root in graph.initializers or sum(roots[other] == root for other in left) > 1:
            continue
        ir.convenience.rename_values(graph.initializers[name], root)
