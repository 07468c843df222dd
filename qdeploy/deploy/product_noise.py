"""What each INT8 product of a quantized file costs: the noise of the outputs if it alone is so.

The FP32 graph is run with one of its products replaced at a time: input, weight and output rounded
as the quantized file rounds them. So every figure is of one product, with exact inputs, and none
has the noise of those before it. Which product of the FP32 file a quantized one is, the numbers of
their weights say: names, order and layout may be others, and each number has to be within a step of
its code. Where they do not say it (weights that were scaled, reordered or merged, or that stand in
another number of products), nothing is guessed, and the product is named with the reason.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.ort.session import session_options
from qdeploy.deploy.product_flops import prepare
from qdeploy.deploy.rounded_products import (
    NotUnderstood,
    RoundedProduct,
    Rounding,
    matrix_of,
    rounded_products,
)
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.products import Product, find_products
from qdeploy.graph.session import run_session, session_of
from qdeploy.machine.threads import usable_cores
from qdeploy.onnx_file.check import load_graph
from qdeploy.schemas.comparison import ProductNoise, ProductsNoise
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array

# A number is half a step from its code, and a whole one where rounding was chosen with care (GPTQ,
# AdaRound); a few may be clipped. Other weights, and the same ones scaled, are many steps away.
_FLOAT = ("MatMul", "Gemm")  # products of FP32 that can be replaced
_STEP, _CLIPPED, _COLUMNS = 1.01, 0.02, 64
_CHOSEN = "qdeploy.rounded"  # the input that says which products are rounded
_REMEDY = "Take it anew from where it was made."


@dataclass(frozen=True)
class Answers:
    """Which outputs are compared: names; whether of rows or of tokens; `Head.exclusive`."""

    names: tuple[str, ...]
    of_rows: bool
    exclusive: bool


def product_noise(
    path: Path, against: Path, batches: Sequence[Mapping[str, Array]], answers: Answers
) -> ProductsNoise:
    """Run the FP32 file once for each product of the quantized one.

    Args:
        path: quantized file.
        against: FP32 file.
        batches: int64 [B, S] inputs by name.
        answers: what is compared.
    """
    exact = load_graph(against, _REMEDY)
    quantized = load_graph(path, _REMEDY)
    for model in (exact, quantized):
        prepare(model)
    found = list(rounded_products(quantized))
    known = [one for one in found if isinstance(one, RoundedProduct)]
    left_out = [one for one in found if not isinstance(one, RoundedProduct)]
    if _is_half(exact):
        reason = f"{against.name} is in FP16, and products are rounded in FP32: name an FP32 file"
        pairs: list[tuple[RoundedProduct, Product]] = []
        unmatched = [(one.name, reason) for one in known]
    else:
        pairs, unmatched = match(known, find_products(exact), exact.graph)
    left_out += unmatched
    rows = sum(len(next(iter(batch.values()))) for batch in batches)
    empty: ProductsNoise = {
        "rows": rows,
        "together_db": None,
        "products": [],
        "not_matched": [{"product": name, "reason": reason} for name, reason in left_out],
    }
    if not pairs:
        return empty
    names = [str(value.name) for value in exact.graph.outputs]
    session = session_of(_switched(exact, pairs), session_options(usable_cores()))

    def run(chosen: Array) -> list[dict[str, Array]]:
        outputs = (run_session(session, {**b, _CHOSEN: chosen}, against) for b in batches)
        return [dict(zip(names, one, strict=True)) for one in outputs]

    count = len(pairs)
    reference = run(np.zeros(count, np.bool_))

    def level(chosen: Array) -> float | None:
        own = run(chosen)
        compared = [_joined(name, reference, own, batches, answers) for name in answers.names]
        found = logit_sqnr_db(compared, exclusive=answers.exclusive)
        return found if math.isfinite(found) else None

    products: list[ProductNoise] = [
        {
            "product": rounded.name,
            "of": product.name,
            "alone_db": level(np.arange(count) == at),
        }
        for at, (rounded, product) in enumerate(pairs)
    ]
    return {**empty, "together_db": level(np.ones(count, np.bool_)), "products": products}


def _is_half(model: ir.Model) -> bool:
    return any(value.dtype == ir.DataType.FLOAT16 for value in model.graph.initializers.values())


def match(
    rounded: Sequence[RoundedProduct], exact: Sequence[Product], graph: ir.Graph
) -> tuple[list[tuple[RoundedProduct, Product]], list[tuple[str, str]]]:
    """Pair products by the numbers of their weights; those of equal weights in their order.

    Args:
        rounded: of the quantized file.
        exact: of the FP32 file; only those of `graph` itself are replaced, none in a body.

    Returns:
        The pairs, and (name, reason) of each product that has no partner.
    """
    by_shape: dict[tuple[int, ...], list[tuple[Product, Array]]] = defaultdict(list)
    for product in exact:
        weight = weight_of(product)
        known = product.node.op_type in _FLOAT and product.node.graph is graph
        if weight is None or not known:
            continue
        try:
            numbers = matrix_of(product, weight.floats())
        except NotUnderstood:
            continue
        by_shape[numbers.shape].append((product, numbers))
    candidates: dict[tuple[str, ...], list[RoundedProduct]] = defaultdict(list)
    products = {product.name: product for product in exact}
    for one in rounded:
        same = [
            product.name
            for product, numbers in by_shape[one.weight.shape]
            if is_rounded(one, numbers)
        ]
        candidates[tuple(same)].append(one)
    pairs, left_out = [], []
    for names, ones in candidates.items():
        if len(names) == len(ones):
            pairs += [(one, products[name]) for one, name in zip(ones, names, strict=True)]
            continue
        reason = "its weight, as numbers, is that of no product of the FP32 file"
        if names:
            reason = f"its weight is in {len(ones)} products of this file and {len(names)} of FP32"
        left_out += [(one.name, reason) for one in ones]
    order = {one.name: at for at, one in enumerate(rounded)}
    return sorted(pairs, key=lambda pair: order[pair[0].name]), left_out


def is_rounded(rounded: RoundedProduct, exact: Array) -> bool:
    """Whether a weight is another one rounded: number by number no further from it than a step.

    Args:
        exact: float32 [K, N].
    """
    chosen = np.unique(np.linspace(0, exact.shape[1] - 1, _COLUMNS).astype(np.int64))
    far = np.abs(rounded.weight[:, chosen] - exact[:, chosen]) > _STEP * rounded.steps[chosen]
    return float(far.mean()) <= _CLIPPED


def _switched(model: ir.Model, pairs: Sequence[tuple[RoundedProduct, Product]]) -> ir.Model:
    """The FP32 graph, in which each product is rounded where a Boolean of its own says so."""
    editor = GraphEditor(model)
    chosen = ir.Value(
        name=_CHOSEN,
        shape=ir.Shape([len(pairs)]),
        type=ir.TensorType(ir.DataType.BOOL),
    )
    model.graph.inputs.append(chosen)
    for at, (rounded, product) in enumerate(pairs):
        node, name = product.node, f"qdeploy.{at}"
        place = editor.constant(f"{name}.place", np.array(at, np.int64))
        switch = editor.node(
            "Gather", [chosen, place], f"{name}.switch", dtype=ir.DataType.BOOL
        ).outputs[0]
        old = node.outputs[0]
        branches = {
            "then_branch": _branch(name, _rounding_nodes(editor, name, rounded, product)),
            "else_branch": _branch(name, [_copy(node, list(node.inputs))]),
        }
        attributes = [
            ir.Attr(key, ir.AttributeType.GRAPH, graph) for key, graph in branches.items()
        ]
        both = ir.Node("", "If", [switch], attributes, name=editor.unique(f"{name}.if"))
        both.outputs[0].name = editor.unique(f"{name}.either")
        both.outputs[0].type, both.outputs[0].shape = old.type, old.shape
        model.graph.append(both)
        editor.take_over(old, both.outputs[0])
        model.graph.remove(node)
    return editor.finish()


def _branch(name: str, nodes: list[ir.Node]) -> ir.Graph:
    for at, node in enumerate(nodes):
        for place, value in enumerate(node.outputs):
            value.name = f"{name}.{node.op_type}.{at}.{place}"
    last = nodes[-1].outputs[0]
    last.type = last.type or ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [last], nodes=nodes, name=f"{name}.branch")


def _copy(node: ir.Node, inputs: list[ir.Value | None]) -> ir.Node:
    return ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()))


def _rounding_nodes(
    editor: GraphEditor, name: str, rounded: RoundedProduct, product: Product
) -> list[ir.Node]:
    """Input and weight rounded, the product as FP32 has it, and its output rounded."""
    node, at = product.node, product.constants[0]
    turned = node.attributes.get_int("transB", 0) == 1
    weight = editor.constant(f"{name}.weight", rounded.weight.T if turned else rounded.weight)
    source = node.inputs[1 - at]
    assert source is not None
    nodes: list[ir.Node] = []
    if rounded.source is not None:
        nodes += _round(editor, f"{name}.source", source, rounded.source)
        source = nodes[-1].outputs[0]
    nodes.append(_copy(node, [source, weight, *node.inputs[2:]]))
    if rounded.result is not None:
        nodes += _round(editor, f"{name}.result", nodes[-1].outputs[0], rounded.result)
    return nodes


def _round(editor: GraphEditor, name: str, value: ir.Value, how: Rounding) -> list[ir.Node]:
    if how.scale is None or how.zero_point is None:
        first = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
        return [first, ir.node("DequantizeLinear", list(first.outputs))]
    scale = editor.constant(f"{name}.scale", how.scale)
    zero = editor.constant(f"{name}.zero_point", how.zero_point)
    first = ir.node("QuantizeLinear", [value, scale, zero])
    return [first, ir.node("DequantizeLinear", [first.outputs[0], scale, zero])]


def _joined(
    name: str,
    reference: Sequence[Mapping[str, Array]],
    own: Sequence[Mapping[str, Array]],
    batches: Sequence[Mapping[str, Array]],
    answers: Answers,
) -> tuple[Array, Array]:
    """An output of all batches, without padding: (exact, rounded), [rows or tokens, …]."""
    sides: list[list[Array]] = [[], []]
    for *both, feeds in zip(reference, own, batches, strict=True):
        kept = None if answers.of_rows else feeds["attention_mask"] == 1
        for side, found in zip(sides, both, strict=True):
            side.append(found[name] if kept is None else found[name][kept])
    return np.concatenate(sides[0]), np.concatenate(sides[1])


def noise_of_request(path: Path, request: Path) -> ProductsNoise:
    """`product_noise` of a request on disk, in the process that was made for it.

    Args:
        request: JSON: {"against", "feeds": .npz of `<batch>/<input>`, "names", "of_rows",
            "exclusive"}.
    """
    told: dict[str, Any] = json.loads(request.read_text("utf-8"))
    batches: dict[str, dict[str, Array]] = defaultdict(dict)
    with np.load(told["feeds"], allow_pickle=False) as arrays:
        for key in arrays.files:
            at, _, name = key.partition("/")
            batches[at][name] = arrays[key]
    answers = Answers(tuple(told["names"]), told["of_rows"], told["exclusive"])
    return product_noise(path, Path(told["against"]), list(batches.values()), answers)
