"""The traced graph in its canonical form, which the other rooms build on.

1. Dimensions are named "batch" and "sequence"; inputs that no node reads are gone. No operator
   merely rearranges a constant (see `fold`), so that a MatMul reads its weight as [K, N] itself.
2. Initializers bear the names of torch's parameters. torch's exporter merges equal ones (all zero
   biases become one) and names transposed weights `val_87`; each module gets its own back, since
   lowering changes them one by one. Parameters that are one in torch stay one.
3. Nodes are called `<module path>/<operator>`.
4. Of all metadata only `pkg.torch.onnx.name_scopes` stays: stack traces name directories of this
   machine. The same checkpoint gives the same bytes.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.fold import fold_constants
from qdeploy.types import Array

if TYPE_CHECKING:  # ONNX files are exported without it
    import torch

SCOPES = "pkg.torch.onnx.name_scopes"
_DIMENSIONS = ("batch", "sequence")


def clean(model: ir.Model, source: torch.nn.Module) -> ir.Model:
    """Bring a traced graph into canonical form, in place.

    Args:
        model: from `trace`.
        source: the torch model it was traced from.
    """
    _drop_unread(model.graph)
    fold_constants(model.graph)
    _name_dimensions(model.graph)
    _name_initializers(model.graph, {n: p.detach() for n, p in source.named_parameters()})
    name_nodes(model.graph)
    strip(model)
    return model


def _drop_unread(graph: ir.Graph) -> None:
    for value in [v for v in graph.inputs if not v.uses()]:
        graph.inputs.remove(value)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _name_dimensions(graph: ir.Graph) -> None:
    """Replace torch's symbols (s18, s43) by names, also inside expressions (2*s43)."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for dimension, name in zip(value.shape or (), _DIMENSIONS, strict=False):
            names[str(dimension)] = name
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    for value in _values(graph):
        if value.shape is None:
            continue
        value.shape = ir.Shape(
            [
                d
                if isinstance(d, int) or d.value is None
                else ir.SymbolicDim(pattern.sub(lambda m: names[m.group()], str(d.value)))
                for d in value.shape
            ]
        )


def _name_initializers(graph: ir.Graph, parameters: Mapping[str, torch.Tensor]) -> None:
    given: dict[str, ir.Value] = {}
    for node in graph:
        for index, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            array = _array(value)
            if array.size <= 1:
                continue
            name = _owner(scopes(node), array, parameters)
            if name is not None:
                node.replace_input_with(index, _named(given, name, array))
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    for value in given.values():
        graph.register_initializer(value)


def _named(given: dict[str, ir.Value], name: str, array: Array) -> ir.Value:
    """The initializer `name`; a second layout of the same parameter is called `name.T`."""
    if name in given and not np.array_equal(_array(given[name]), array):
        name = f"{name}.T"
    if name not in given:
        given[name] = ir.val(name, const_value=ir.Tensor(array, name=name))
    return given[name]


def _owner(path: list[str], array: Array, parameters: Mapping[str, torch.Tensor]) -> str | None:
    """The parameter an array is, as it is or transposed: of the innermost module that has it."""
    for module in reversed(path):
        prefix = f"{module}." if module else ""
        for name, tensor in parameters.items():
            if name.startswith(prefix) and _equal(array, tensor):
                return name
    return None


def _equal(array: Array, tensor: torch.Tensor) -> bool:
    shape = tuple(tensor.shape)
    if array.shape == shape and np.array_equal(array, tensor.numpy()):
        return True
    return (
        array.ndim == 2 and array.shape == shape[::-1] and np.array_equal(array, tensor.numpy().T)
    )


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.ascontiguousarray(value.const_value.numpy())


def scopes(node: ir.Node) -> list[str]:
    """Module paths around a node, outermost ("") first."""
    text = node.metadata_props.get(SCOPES)
    found: list[str] = ast.literal_eval(text)[:-1] if text else [""]
    return [path for path in found if not path.startswith("_")] or [""]


def name_nodes(graph: ir.Graph) -> None:
    counts: Counter[str] = Counter()
    for node in graph:
        if SCOPES not in node.metadata_props:
            _inherit_scopes(node)
        path = scopes(node)[-1]
        name = f"{path}/{node.op_type}" if path else node.op_type
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"


def _inherit_scopes(node: ir.Node) -> None:
    """A node that the optimizer made belongs where its first input was computed."""
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is not None and SCOPES in producer.metadata_props:
            node.metadata_props[SCOPES] = producer.metadata_props[SCOPES]
            return


def strip(model: ir.Model) -> None:
    # Not `ClearMetadataAndDocStringPass`: it takes the scopes of nodes, and leaves what values say.
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    model.producer_name, model.producer_version = "qdeploy", None
    for value in [*_values(model.graph), *model.graph.outputs]:
        value.metadata_props.clear()
        value.doc_string = None
    for node in model.graph:
        kept = node.metadata_props.get(SCOPES)
        node.metadata_props.clear()
        node.doc_string = None
        if kept is not None:
            node.metadata_props[SCOPES] = kept
