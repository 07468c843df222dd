"""Floating-point operations of every product of an ONNX file, counted in a run of it.

Shapes come from the profile of a session that optimizes nothing: each node as it is written, as
often as it ran, inside bodies too. So rows are those of the run, whatever the graph does with
padding, and no name is trusted. A multiply and an add are two operations, of integers too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import InlinePass

from qdeploy.deploy.engine import inputs_of
from qdeploy.deploy.ort.events import Event, kernel_events
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.errors import DataError, ModelError
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.constants import constant_tensor
from qdeploy.graph.product_operators import kind_of
from qdeploy.graph.products import Product, find_products
from qdeploy.graph.session import reason_of
from qdeploy.onnx_file.check import load_graph
from qdeploy.onnx_file.rules import MAX_NUMBERS, shape_text
from qdeploy.onnx_file.structure import cut
from qdeploy.types import Array

Shape = tuple[int, ...]
_COPY = "counted.onnx"


@dataclass(frozen=True)
class CountedProduct:
    """A product and its work.

    Attributes:
        product: as found in the graph.
        flops: operations of a run; of one that this run left out, an estimate from its weight.
        ran: whether it ran at all: a branch may be left out.
    """

    product: Product
    flops: int
    ran: bool


@dataclass(frozen=True)
class Count:
    """All products of a graph.

    Attributes:
        model: the graph that they stand in: functions are inlined, every node has its own name.
        products: those that a run can reach, in order.
        measured: whether the file ran; else every figure is an estimate from the weights.
        reason: why it did not run.
    """

    model: ir.Model
    products: tuple[CountedProduct, ...]
    measured: bool = True
    reason: str = ""

    @property
    def flops(self) -> int:
        """Of all of them."""
        return sum(counted.flops for counted in self.products)


@dataclass
class _Call:
    """One run of a node: shapes of its outputs, and of the inputs that no kernel packed before."""

    inputs: list[Shape]
    outputs: list[Shape]


@dataclass
class _Run:
    """What a profile tells: calls of nodes, by the node's name."""

    feeds: Mapping[str, Shape]
    calls: dict[str, list[_Call]] = field(default_factory=dict)

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Of a value in the last run; None where it is not known."""
        if value is None:
            return None
        if (tensor := constant_tensor(value)) is not None:
            return tuple(tensor.shape.numpy())
        node = value.producer()
        if node is None:
            return self.feeds.get(str(value.name))
        calls, index = self.calls.get(str(node.name), []), value.index()
        shapes = calls[-1].outputs if calls else []
        return shapes[index] if index is not None and index < len(shapes) else None


def count_products(path: Path, feeds: Mapping[str, Array]) -> Count:
    """Find the products of a file and count their work on some inputs.

    Args:
        path: .onnx file; it is not changed.
        feeds: inputs by name; where the file does not run on them, the count is an estimate.

    Raises:
        ModelError: the file cannot be read.
    """
    model = load_graph(path, "Take it anew from where it was made.")
    changed = prepare(model)
    products = find_products(model)
    tokens = _tokens(feeds)
    try:
        run = _profiled(model if changed else None, path, feeds)
    except (DataError, ModelError) as error:
        estimates = (estimate(product, tokens) for product in products)
        return Count(model, tuple(estimates), measured=False, reason=str(error))
    counted = [_counted(product, run, tokens) for product in products]
    return Count(model, tuple(c for c in counted if c is not None))


def any_feeds(path: Path, *, batch: int = 1, sequence: int = 128) -> dict[str, Array]:
    """Inputs that most encoders take: masks of ones, all other numbers 0, so that no table is
    left; first axis `batch`, other free axes `sequence`.

    Raises:
        ModelError: the file does not load in ONNX Runtime.
    """
    types = {"int64": np.int64, "int32": np.int32, "bool": np.bool_, "float16": np.float16}
    types |= {"double": np.float64, "uint8": np.uint8, "int8": np.int8}
    found: dict[str, Array] = {}
    for value in open_session(path, _plain()).get_inputs():
        dtype = types.get(value.type.removeprefix("tensor(").removesuffix(")"), np.float32)
        free = [batch if at == 0 else sequence for at in range(len(value.shape))]
        shape = [d if isinstance(d, int) else free[at] for at, d in enumerate(value.shape)]
        if math.prod(shape) > MAX_NUMBERS:
            raise ModelError(
                f"{path}: the input {cut(value.name)} has the shape {shape_text(shape)}, no "
                "encoder's. Write the file again with axes that are free, or with smaller ones."
            )
        ones = "mask" in value.name or dtype in (np.float32, np.float16, np.float64)
        found[value.name] = np.full(shape, 1 if ones else 0, dtype)
    return found


def prepare(model: ir.Model) -> bool:
    """Inline functions and give every node a name of its own; whether anything changed."""
    changed = bool(model.functions)
    if changed:
        InlinePass()(model)
    # Not `NameFixPass`: it renames values too, and those names stand in reports.
    nodes = list(model.graph.all_nodes())
    names = Counter(str(node.name or "") for node in nodes)
    taken = set(names)
    for index, node in enumerate(nodes):
        name = str(node.name or "")
        if name and names[name] == 1:
            continue
        changed = True
        fresh = f"{name or node.op_type}#{index}"
        while fresh in taken:
            fresh += "+"
        taken.add(fresh)
        node.name = fresh
    return changed


def _plain() -> ort.SessionOptions:
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _profiled(model: ir.Model | None, path: Path, feeds: Mapping[str, Array]) -> _Run:
    """Run a file, or a graph that was made of it, as it is written."""
    with scratch("flops") as folder:
        if model is not None:
            path = folder / _COPY
            save_graph(model, path, f"{_COPY}.data")
        options = _plain()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options)
        wanted = inputs_of(feeds, [value.name for value in session.get_inputs()])
        try:
            session.run(None, wanted)
        except Exception as error:  # onnxruntime raises classes of its own for each cause
            raise ModelError(f"{path.name} did not run: {reason_of(error)}") from error
        events: list[Event] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    run = _Run({name: array.shape for name, array in wanted.items()})
    for name, event in kernel_events(events):
        sides = (event["args"]["input_type_shape"], event["args"]["output_type_shape"])
        call = _Call(*([tuple(*entry.values()) for entry in side] for side in sides))
        run.calls.setdefault(name, []).append(call)
    return run


def _counted(product: Product, run: _Run, tokens: int) -> CountedProduct | None:
    """None where no input makes it run: a branch that a constant switches off."""
    calls = run.calls.get(str(product.node.name), [])
    if not calls:
        return estimate(product, tokens) if product.optional else None
    work = sum(_work(product, call, run) for call in calls)
    if not work:  # no rows on these inputs: other inputs have some
        return estimate(product, tokens)
    return CountedProduct(product, work, ran=True)


def _work(product: Product, call: _Call, run: _Run) -> int:
    """Operations of one call."""
    node = product.node
    given = [at for at, value in enumerate(node.inputs) if value is not None]
    known = dict(zip(given, call.inputs, strict=True)) if len(given) == len(call.inputs) else {}
    shapes = (known.get(at) or run.shape(node.inputs[at]) for at in product.operands)
    formula = _FORMULAS.get(kind_of(node))
    if formula is None:  # an operator that is not known: its constants met by every row
        return 2 * math.prod(call.outputs[0][:-1]) * product.entries
    return formula(node, call.outputs[0], [shape or () for shape in shapes])


def _matrix(node: ir.Node, out: Shape, operands: Sequence[Shape]) -> int:
    """2 · rows · N · K; K is the last axis of the first operand, or the one before it."""
    if (inner := node.attributes.get_int("K", None)) is not None:  # MatMulNBits: weight in blocks
        return 2 * math.prod(out) * inner
    first, second = operands[0], operands[1]
    if first:
        at = -2 if node.attributes.get_int("transA", 0) and len(first) > 1 else -1
        return 2 * math.prod(out) * first[at]
    at = -1 if node.attributes.get_int("transB", 0) or len(second) == 1 else -2
    return 2 * math.prod(out) * (second[at] if second else 1)


def _convolution(node: ir.Node, out: Shape, operands: Sequence[Shape]) -> int:
    """2 · outputs · (channels of a group · kernel), of a transposed one 2 · inputs · the same."""
    places = operands[0] if "Transpose" in node.op_type else out
    return 2 * math.prod(places) * math.prod(operands[1][1:])


def _recurrent(node: ir.Node, out: Shape, operands: Sequence[Shape]) -> int:
    """2 · tokens · entries of both weights: [S, B, I] or, with layout 1, [B, S, I]."""
    del node, out
    return 2 * math.prod(operands[0][:2]) * sum(math.prod(weight) for weight in operands[1:])


def _attention(node: ir.Node, out: Shape, operands: Sequence[Shape]) -> int:
    """2 · tokens · entries of the joined weight of query, key and value."""
    del node, out
    return 2 * math.prod(operands[0][:-1]) * math.prod(operands[1])


def _einsum(node: ir.Node, out: Shape, operands: Sequence[Shape]) -> int:
    """2 · every index once · (operands − 1)."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    rest: Shape = ()
    for term, shape in zip(terms, operands, strict=True):
        before, dots, behind = term.partition("...")
        pairs = [*zip(before, shape, strict=False)]
        if dots:
            end = len(shape) - len(behind)
            pairs += [*zip(behind, shape[end:], strict=False)]
            rest = max(rest, shape[len(before) : end], key=math.prod)
        for letter, size in pairs:
            sizes[letter] = max(sizes.get(letter, 1), size)
    del out
    return 2 * math.prod(sizes.values()) * math.prod(rest) * max(len(operands) - 1, 1)


_FORMULAS: dict[str, Callable[[ir.Node, Shape, Sequence[Shape]], int]] = {
    "matrix": _matrix,
    "convolution": _convolution,
    "recurrent": _recurrent,
    "attention": _attention,
    "einsum": _einsum,
}


def estimate(product: Product, tokens: int) -> CountedProduct:
    """Every entry of the weight once per token."""
    return CountedProduct(product, 2 * tokens * product.entries, ran=False)


def _tokens(feeds: Mapping[str, Array]) -> int:
    """Rows times tokens of the inputs: the largest first two axes."""
    return max((math.prod(array.shape[:2]) for array in feeds.values()), default=1)
