"""Products of a computed tensor with a constant matrix: the GEMMs that a plan knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import onnx_ir as ir

from qdeploy.graph.products import Product
from qdeploy.graph.structure import Gemm

TOKENS = 128  # of the row that FLOPs are told for


def find_gemms(graph: ir.Graph, products: Iterable[Product]) -> Iterator[Gemm]:
    """Those of a graph's products that are a MatMul or Gemm with a stored matrix [K, N]."""
    taken: set[str] = set()
    for product in products:
        node = product.node
        # In the body of an If or a Loop it may not run at all: no plan counts on it.
        if product.operator not in ("MatMul", "Gemm") or node.graph is not graph:
            continue
        weight, source = node.inputs[1], node.inputs[0]
        # x · W alone: of a constant on the left, the channels of x are no rows of it.
        if weight is None or source is None or product.constants != (1,):
            continue
        if not weight.is_initializer() or weight.shape is None or weight.shape.rank() != 2:
            continue
        gemm = _gemm(node, source, weight)
        if gemm is not None:
            name = unique_name(gemm.name, taken)
            yield gemm if name == gemm.name else replace(gemm, name=name)


def _gemm(node: ir.Node, source: ir.Value, weight: ir.Value) -> Gemm | None:
    transposed = False
    if node.op_type == "Gemm":
        # With a factor, or with x turned, it is none of the products that lowerings write.
        if any(node.attributes.get_float(key, 1.0) != 1.0 for key in ("alpha", "beta")):
            return None
        if node.attributes.get_int("transA", 0) != 0:
            return None
        transposed = node.attributes.get_int("transB", 0) == 1
        bias: ir.Value | None = node.inputs[2] if len(node.inputs) > 2 else None
        output = node.outputs[0]
    else:
        # A MatMul has no bias of its own: the Add behind it holds one.
        bias, output = _bias_add(node)
    assert weight.shape is not None
    rows, columns = weight.shape.numpy()
    k, n = (columns, rows) if transposed else (rows, columns)
    return Gemm(
        name=_gemm_name(node, weight, bias),
        node=str(node.name),
        weight=str(weight.name),
        transposed=transposed,
        bias=None if bias is None else str(bias.name),
        input=str(source.name),
        output=str(output.name),
        k=k,
        n=n,
        rows=_rows(source),
    )


def _rows(source: ir.Value) -> int:
    """Rows of a GEMM's input for one row of 128 tokens; [B·S, K] has as many as [B, S, K].

    A shape that nothing tells is taken for that of tokens where it has three axes or more.
    """
    if source.shape is None:
        return TOKENS
    sizes = list(source.shape.evaluate({"batch": 1, "sequence": TOKENS}))[:-1]
    if all(isinstance(size, int) for size in sizes):
        return math.prod(size for size in sizes if isinstance(size, int))
    return TOKENS if len(sizes) >= 2 else 1


def _bias_add(node: ir.Node) -> tuple[ir.Value | None, ir.Value]:
    """The bias of a MatMul whose only reader is an Add of a constant vector, and the sum."""
    product = node.outputs[0]
    uses = product.uses()
    if len(uses) == 1 and not product.is_graph_output():
        # Nobody else reads the product, so that nothing is lost when the sum takes its place.
        ((add, at),) = uses
        other = add.inputs[1 - at] if add.op_type == "Add" else None
        vector = other is not None and other.shape is not None and other.shape.rank() == 1
        if vector and other is not None and other.is_initializer():
            return other, add.outputs[0]
    return None, product


def _gemm_name(node: ir.Node, weight: ir.Value, bias: ir.Value | None) -> str:
    for value, suffix in ((bias, ".bias"), (weight, ".weight")):
        if value is not None and str(value.name).endswith(suffix):
            return str(value.name).removesuffix(suffix)
    return module_of(node)


def module_of(node: ir.Node) -> str:
    """The module a node was traced from, else the node's own name."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
    names = [part.strip(" []'\"") for part in scopes.split(",")]
    paths = [name for name in names if "." in name and not name.startswith("_")]
    return max(paths, key=len) if paths else str(node.name)


def unique_name(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    taken.add(candidate)
    return candidate
