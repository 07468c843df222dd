"""What no honest ONNX file does, seen in its structure: a hundred bytes may claim 2^62 numbers, ask
for a loop of 2^60 passes, wait for themselves or call themselves.

Every rule raises `WireError`, whose text is the fact.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qdeploy.onnx_file.structure import (
    MAX_DEPTH,
    MAX_NODES,
    File,
    Graph,
    Node,
    Tensor,
    WireError,
    cut,
)

MAX_NUMBERS = 1 << 28  # of one tensor that a node makes of constants: 1 GiB in FP32
MAX_PASSES = 1_000_000  # of a loop whose number of passes is a constant
_MAX_DIM = 1 << 40
_MAX_RANK = 64
# Bits of a number by type (TensorProto.DataType), and the field that such numbers stand in where
# it is not raw_data; strings have no size of their own.
_STRING = 8
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64}
BITS |= {14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8}
BITS |= {25: 2, 26: 2}
_FIELDS = {1: 4, 7: 7, _STRING: 6, 11: 10, 12: 11, 13: 11, 14: 4, 15: 10}
_INT32_DATA = 5
_PARTS = {14: 2, 15: 2}  # complex numbers are stored as two
# Operators that make a tensor of a shape that an input tells, and which input that is.
_SHAPE_AT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Reshape": 1, "Resize": 3}
Functions = Mapping[tuple[str, str, str], int]


def check_structure(file: File, *, flat: bool) -> None:
    """Hold a file against every rule but those of weights in other files.

    Args:
        file: its structure.
        flat: refuse bodies and functions too: qdeploy writes none.

    Raises:
        WireError: it breaks one.
    """
    if file.graph is None or not (file.graph.nodes or file.graph.outputs):
        raise WireError("it holds no graph")
    if flat and (file.functions or any(node.bodies for node in file.graph.nodes)):
        raise WireError("it holds loops, branches or functions, and qdeploy writes none")
    for tensor in file.tensors:
        _check_tensor(tensor)
    sizes = _expanded(file.functions)
    for graph in (file.graph, *file.functions):
        _check_graph(graph, sizes)


def _check_tensor(tensor: Tensor) -> None:
    """The bytes of a tensor are those that its shape and type ask for."""
    name = tensor.label()
    if len(tensor.dims) > _MAX_RANK or any(not 0 <= dim <= _MAX_DIM for dim in tensor.dims):
        raise WireError(f"{name} has the shape {shape_text(tensor.dims)}")
    if len(tensor.dense) > _MAX_RANK or product(tensor.dense) > MAX_NUMBERS:
        raise WireError(f"{name} is sparse, and becomes {shape_text(tensor.dense)}")
    numbers = math.prod(tensor.dims)
    if tensor.data_type != _STRING and tensor.data_type not in BITS:
        raise WireError(f"{name} has the unknown type {tensor.data_type}")
    if tensor.is_external:
        if tensor.data_type == _STRING:
            raise WireError(f"{name} holds texts in a file of its own, which ONNX does not have")
        return  # `onnx_external`
    if tensor.external:
        raise WireError(f"{name} names a file, and says that it does not stand in one")
    if tensor.raw is not None and any(tensor.counts.values()):
        raise WireError(f"{name} holds its numbers twice")
    bits = BITS.get(tensor.data_type, 0)
    if tensor.raw is not None and tensor.data_type != _STRING:
        least = most = -(-numbers * bits // 8)
        fits = tensor.raw == least
    else:
        found = tensor.counts.get(_FIELDS.get(tensor.data_type, _INT32_DATA), 0)
        most = numbers * _PARTS.get(tensor.data_type, 1)
        least = -(-most * bits // 8) if 0 < bits < 8 else most  # small ones may share a field
        fits = least <= found <= most
    if not fits:
        raise WireError(f"{name} of shape {shape_text(tensor.dims)} does not have as many numbers")


def product(numbers: Iterable[int]) -> int:
    """Of those above 0; where it goes beyond `MAX_NUMBERS`, some number that does."""
    total = 1
    for number in numbers:
        if number > 0:
            total *= number
        if total > MAX_NUMBERS:
            break
    return total


def shape_text(dims: Sequence[int]) -> str:
    """A shape as it stands in a text."""
    return "[" + ", ".join(map(str, dims[:8])) + (", …]" if len(dims) > 8 else "]")


def _expanded(functions: Sequence[Graph]) -> dict[tuple[str, str, str], int]:
    """Nodes that each function becomes where it is called.

    Raises:
        WireError: one calls itself, or they become too many or too deep.
    """
    known = {(_domain(f.domain), f.name, f.overload): f for f in functions}
    if len(known) < len(functions):
        raise WireError("two functions in it have one name")
    sizes: dict[tuple[str, str, str], int] = {}
    open_: list[tuple[str, str, str]] = []

    def size(key: tuple[str, str, str]) -> int:
        if key in sizes:
            return sizes[key]
        if key in open_:
            raise WireError(f"the function {cut(key[1])} calls itself")
        if len(open_) >= MAX_DEPTH:
            raise WireError(f"functions in it call each other more than {MAX_DEPTH} deep")
        open_.append(key)
        total = 0
        for node in _all_nodes(known[key]):
            called = _called(node)
            total += size(called) if called in known else 1
        open_.pop()
        sizes[key] = total
        return total

    for key in known:
        if size(key) > MAX_NODES:
            raise WireError(f"the function {cut(key[1])} becomes more than {MAX_NODES:,} nodes")
    return sizes


def _called(node: Node) -> tuple[str, str, str]:
    return _domain(node.domain), node.op_type, node.overload


def _domain(name: str) -> str:
    """ONNX's own has two names."""
    return "" if name == "ai.onnx" else name


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in node.bodies:
            yield from _all_nodes(body)


def _check_graph(graph: Graph, calls: Functions) -> None:
    total = 0
    for node in _all_nodes(graph):
        total += calls.get(_called(node), 1)
    if total > MAX_NODES:
        raise WireError(f"it has more than {MAX_NODES:,} nodes")
    missing = _missing(graph) - {""}
    if missing:
        raise WireError(f"it reads {cut(min(missing))}, which nothing in it computes or holds")
    _check_sizes(graph, ChainMap())


def _missing(graph: Graph) -> set[str]:
    """Names that a graph reads and does not define: a body reads those of the graphs around it.

    Raises:
        WireError: a name that is defined twice, or nodes that wait for each other.
    """
    made: set[str] = set()
    stored = {tensor.name for tensor in graph.initializers}
    if len(stored) < len(graph.initializers):
        raise WireError("two initializers in it have one name")
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            if name in made or name in stored:
                raise WireError(f"{cut(name)} is computed twice")
            made.add(name)
    reads = [set(filter(None, node.inputs)) for node in graph.nodes]
    for names, node in zip(reads, graph.nodes, strict=True):
        for body in node.bodies:
            names |= _missing(body)
    ordered(graph, reads)
    known = stored.union(graph.inputs, made)
    return set().union(graph.outputs, *reads) - known


def ordered(graph: Graph, reads: Sequence[set[str]]) -> list[Node]:
    """The nodes of a graph, each behind those that it reads; a file may have them in any order.

    Args:
        reads: names that each node reads.

    Raises:
        WireError: nodes wait for each other.
    """
    made = {name: at for at, node in enumerate(graph.nodes) for name in node.outputs if name}
    waits = [0] * len(reads)
    readers: dict[int, list[int]] = {}
    for at, names in enumerate(reads):
        for name in names:
            if (maker := made.get(name)) is not None:
                waits[at] += 1
                readers.setdefault(maker, []).append(at)
    ready = [at for at, count in enumerate(waits) if count == 0]
    done: list[Node] = []
    while ready:
        at = ready.pop()
        done.append(graph.nodes[at])
        for reader in readers.get(at, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                ready.append(reader)
    if len(done) < len(reads):
        stuck = graph.nodes[next(at for at, count in enumerate(waits) if count)]
        raise WireError(f"{stuck.label()} needs its own result")
    return done


def _check_sizes(graph: Graph, constants: ChainMap[str, Tensor]) -> None:
    """Refuse what constants alone make enormous: tensors, and passes of loops."""
    known = constants.new_child({t.name: t for t in graph.initializers})
    for node in graph.nodes:
        if node.op_type == "Constant" and node.outputs:
            known[node.outputs[0]] = constant_of(node)
    for node in graph.nodes:
        made = made_of(node, known)
        if made > MAX_NUMBERS:
            raise WireError(f"{node.label()} makes more than {MAX_NUMBERS:,} numbers of constants")
        if node.op_type == "Loop":
            passes = integers_at(node, 0, known)[:1]
            if passes and passes[0] > MAX_PASSES and not _may_stop(node):
                raise WireError(f"{node.label()} asks for {passes[0]} passes")
        for body in node.bodies:
            _check_sizes(body, known)


def constant_of(node: Node) -> Tensor:
    """What a Constant holds; of numbers that stand in it without a shape those of int64 alone."""
    for tensor in node.tensors.values():
        return tensor
    numbers = next(iter(node.integers.values()), [])
    return Tensor(data_type=7, dims=[len(numbers)], counts={7: len(numbers)}, integers=numbers)


def integers_at(node: Node, at: int, known: Mapping[str, Tensor]) -> list[int]:
    """Numbers of an input that is an int64 constant of few; none of any other."""
    tensor = known.get(node.inputs[at]) if at < len(node.inputs) else None
    return [] if tensor is None else tensor.few() or []


def made_of(node: Node, known: Mapping[str, Tensor]) -> int:
    """Numbers that constants ask a node to make, whatever else it reads; 0 where none do."""

    def numbers(at: int) -> list[int]:
        return integers_at(node, at, known)

    if node.op_type in _SHAPE_AT:
        return product(numbers(_SHAPE_AT[node.op_type]))
    if node.op_type == "Pad":
        return sum(n for n in numbers(1) if n > 0)
    if node.op_type == "OneHot":
        return max(numbers(1), default=0)
    if node.op_type in ("RandomNormal", "RandomUniform"):
        return product(node.integers.get("shape", ()))
    if node.op_type == "Range":
        start, limit, delta = (numbers(at)[:1] for at in range(3))
        if start and limit and delta and delta[0]:
            return (limit[0] - start[0]) // delta[0]
    return 0


def _may_stop(node: Node) -> bool:
    """Whether a loop has a condition that is computed: those run for as long as it holds."""
    body = node.bodies[0] if node.bodies else None
    if body is None or not body.outputs:
        return False
    makers = {name: inner for inner in body.nodes for name in inner.outputs}
    maker = makers.get(body.outputs[0])
    while maker is not None and maker.op_type == "Identity":  # no node waits for itself
        maker = makers.get(maker.inputs[0]) if maker.inputs else None
    return maker is not None and maker.op_type != "Constant"
