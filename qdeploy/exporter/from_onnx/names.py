"""Names of modules: of nodes, and of the weights that they own.

TorchScript's exporter calls a node after its module (`/bert/encoder/layer.0/output/dense/MatMul`),
calls transposed weights `onnx::MatMul_370`, and stores equal vectors once: where all biases are
zero, every layer reads one. Lowering changes layers one by one, so each gets its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import SCOPES, Edit, is_standard

_AGAIN = re.compile(r"_\d+$")
# Inputs of an operator that are its own, and what torch calls them.
_OWNED = {
    "Gemm": ((1, "weight"), (2, "bias")),
    "MatMul": ((1, "weight"),),
    "LayerNormalization": ((1, "weight"), (2, "bias")),
    "Conv": ((1, "weight"), (2, "bias")),
    "Gather": ((0, "weight"),),
}


def scope_nodes(graph: ir.Graph) -> None:
    """Write the module of each node where dynamo's exporter writes it, in place.

    >>> node = ir.node("MatMul", [], name="/bert/layer.0/dense/MatMul")
    >>> scope_nodes(ir.Graph([], [], nodes=[node]))
    >>> node.metadata_props[SCOPES]
    "['', 'bert.layer.0.dense', 'MatMul']"
    """
    paths = {node: _path(node) for node in graph if SCOPES not in node.metadata_props}
    known = {path for path, _ in paths.values()}
    for node, (path, operator) in paths.items():
        # TorchScript calls the second run of one module `query_1`: layers of an ALBERT share it
        first = _AGAIN.sub("", path)
        if path:
            module = first if first in known else path
            node.metadata_props[SCOPES] = str(["", module, operator])


def _path(node: ir.Node) -> tuple[str, str]:
    """The module that a node's name says, "" where it says none, and the rest of the name."""
    # ONNX Runtime calls a fused node "fused /bert/pooler/dense/Gemm"
    called = str(node.name or "").rpartition(" ")[2]
    path, _, operator = called.strip("/").rpartition("/")
    return path.replace("/", "."), operator


def name_parameters(model: ir.Model) -> None:
    """Give every module weights of its own, under the names of torch, in place.

    1. Assumes `scope_nodes`.
    2. Recognizes weights of products, normalizations and tables, and biases behind products.
    3. Guarantees the same numbers. A vector that several modules read becomes one for each. What
       one module reads in each of its runs is one: TorchScript's exporter stores a transposed
       matrix for every layer of an ALBERT, whose layers share theirs.
    4. Leaves names that say the module already.
    """
    edit, taken = Edit(model), dict[str, ir.Value]()
    shared = {
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and len(value.const_value.shape) == 1
        and len({use.node for use in value.uses()}) > 1
    }
    for node, at, word, owner in list(_owned(model.graph)):
        value, module = node.inputs[at], module_of(owner)
        assert value is not None
        name = f"{module or str(owner.name).strip('/').replace('/', '.')}.{word}"
        if value in shared:
            own = taken.get(name)
            if own is None or not _equal(own, value):
                own = edit.constant(name, value.const_value.numpy())  # type: ignore[union-attr]
                taken[name] = own
            node.replace_input_with(at, own)
        elif module and name in taken:
            if taken[name] is not value and _equal(taken[name], value):
                node.replace_input_with(at, taken[name])
        elif module and str(value.name) == name:
            taken[name] = value
        elif module and not str(value.name).endswith(f".{word}"):
            ir.convenience.rename_values(value, edit.unique(name))
            taken[str(value.name)] = value
    edit.finish()


def module_of(node: ir.Node) -> str:
    """The module of a node, "" where nothing says it."""
    from qdeploy.exporter.canonical import scopes

    found = [path for path in scopes(node) if path]
    return found[-1] if found else ""


def _owned(graph: ir.Graph) -> Iterator[tuple[ir.Node, int, str, ir.Node]]:
    """Readers of weights, the input, torch's word for it, and the node whose weight it is."""
    for node in graph:
        if not is_standard(node, *_OWNED, "Add"):
            continue
        for at, word in _OWNED.get(node.op_type, ()):
            if at < len(node.inputs) and _is_float(node.inputs[at]):
                yield node, at, word, node
        if node.op_type == "Add":
            for at, value in enumerate(node.inputs):
                other = node.inputs[1 - at]
                product = None if other is None else other.producer()
                if _is_float(value) and product is not None and is_standard(product, "MatMul"):
                    yield node, at, "bias", product


def _is_float(value: ir.Value | None) -> bool:
    if value is None or not value.is_initializer() or value.const_value is None:
        return False
    tensor = value.const_value
    return tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) > 0 and tensor.size > 1


def _equal(one: ir.Value, other: ir.Value) -> bool:
    assert one.const_value is not None and other.const_value is not None
    return np.array_equal(one.const_value.numpy(), other.const_value.numpy())
