"""What is read of an ONNX file's bytes is what protobuf's own parser reads of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qdeploy.onnx_file.messages import read_structure
from qdeploy.onnx_file.structure import File, Graph, Tensor, WireError
from tests.deploy.onnx_graphs import graph_of, node
from tests.deploy.wire import BYTES, FIXED32, FIXED64, VARINT, entry, varint

FILES = 4000


def of_tensor(content: bytes) -> bytes:
    """A file with this initializer."""
    model = graph_of([node("Identity", ["x"], ["y"])])
    graph = model.graph.SerializeToString() + entry(5, BYTES, content)
    model.ClearField("graph")
    return model.SerializeToString() + entry(7, BYTES, graph)


def stored(name: str = "t", outside: bool = False) -> bytes:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    if outside:
        for key, value in (("location", "../canary"), ("offset", "0"), ("length", "16")):
            tensor.external_data.add(key=key, value=value)
    return tensor.SerializeToString()


def ours(content: bytes) -> Any:
    """What the reader says of the main graph and its functions."""
    file = read_structure(content)
    return _graph(file.graph or Graph()), [_graph(f) for f in file.functions], _all(file)


def _all(file: File) -> list[Any]:
    return sorted(_tensor(tensor) for tensor in file.tensors)


def _tensor(tensor: Tensor) -> Any:
    outside = sorted((key, value) for key, values in tensor.external.items() for value in values)
    return (
        tensor.name,
        tensor.dims,
        tensor.data_type,
        tensor.is_external,
        outside,
        -1 if tensor.raw is None else tensor.raw,
        sorted((field, count) for field, count in tensor.counts.items() if count),
    )


def _graph(graph: Graph) -> Any:
    nodes = [
        (
            n.op_type,
            n.domain,
            n.inputs,
            n.outputs,
            sorted((name, values) for name, values in n.integers.items() if values),
            sorted(map(str, map(_graph, n.bodies))),
        )
        for n in graph.nodes
    ]
    names = sorted(tensor.name for tensor in graph.initializers)
    return graph.name, nodes, graph.inputs, graph.outputs, names


def theirs(content: bytes) -> Any:
    """The same of onnx's parser."""
    model = onnx.load_model_from_string(content)
    tensors: list[TensorProto] = []
    main = _their_graph(model.graph, tensors)
    functions = [_their_function(function, tensors) for function in model.functions]
    return main, functions, sorted(map(_their_tensor, tensors))


def _their_tensor(tensor: TensorProto) -> Any:
    fields = {4: "float", 5: "int32", 6: "string", 7: "int64", 10: "double", 11: "uint64"}
    counts = {number: len(getattr(tensor, f"{name}_data")) for number, name in fields.items()}
    return (
        tensor.name,
        list(tensor.dims),
        tensor.data_type,
        tensor.data_location == TensorProto.EXTERNAL,
        sorted((pair.key, pair.value) for pair in tensor.external_data),
        len(tensor.raw_data) if tensor.HasField("raw_data") else -1,
        sorted((number, count) for number, count in counts.items() if count),
    )


def _their_graph(graph: onnx.GraphProto, tensors: list[TensorProto]) -> Any:
    tensors += graph.initializer
    names = [tensor.name for tensor in graph.initializer]
    names += [_their_sparse(sparse, tensors) for sparse in graph.sparse_initializer]
    inputs, outputs = ([v.name for v in values] for values in (graph.input, graph.output))
    return graph.name, [_their_node(n, tensors) for n in graph.node], inputs, outputs, sorted(names)


def _their_function(function: onnx.FunctionProto, tensors: list[TensorProto]) -> Any:
    for attribute in function.attribute_proto:
        _their_attribute(attribute, tensors)
    nodes = [_their_node(n, tensors) for n in function.node]
    return function.name, nodes, list(function.input), list(function.output), []


def _their_sparse(sparse: onnx.SparseTensorProto, tensors: list[TensorProto]) -> str:
    tensors += [getattr(sparse, name) for name in ("values", "indices") if sparse.HasField(name)]
    return sparse.values.name


def _their_attribute(attribute: onnx.AttributeProto, tensors: list[TensorProto]) -> list[Any]:
    if attribute.HasField("t"):
        tensors.append(attribute.t)
    tensors += attribute.tensors
    for sparse in [attribute.sparse_tensor] * attribute.HasField("sparse_tensor"):
        _their_sparse(sparse, tensors)
    for sparse in attribute.sparse_tensors:
        _their_sparse(sparse, tensors)
    bodies = [*attribute.graphs, *[attribute.g] * attribute.HasField("g")]
    return [_their_graph(body, tensors) for body in bodies]


def _their_node(made: onnx.NodeProto, tensors: list[TensorProto]) -> Any:
    integers, bodies = [], []
    for attribute in made.attribute:
        bodies += _their_attribute(attribute, tensors)
        values = [attribute.i] if attribute.HasField("i") else list(attribute.ints)
        if values:
            integers.append((attribute.name, values))
    return (
        made.op_type,
        made.domain,
        list(made.input),
        list(made.output),
        sorted(integers),
        sorted(map(str, bodies)),
    )


def agrees(content: bytes) -> bool:
    """Whether both read the file; where both do, they read the same.

    A file that onnx does not read is one that nothing opens; one that is refused here neither.
    """
    try:
        found = ours(content)
    except WireError:
        return False
    try:
        expected = theirs(content)
    except Exception:  # protobuf's DecodeError, or a name that is not UTF-8
        return False
    assert found == expected, content
    return True


_TWO = np.array([1, 2**40], np.int64)

_UNPACKED = entry(1, VARINT, 2) + entry(2, VARINT, 7) + entry(8, BYTES, b"t")

# What writers do not write and parsers read, with what they read.
ODD: dict[str, bytes] = {
    "dims without tags": entry(1, BYTES, varint(2) + varint(2)) + stored()[2:],
    "dims of a wrong wire type": entry(1, FIXED64, bytes(8)) + entry(1, FIXED32, bytes(4)),
    "integers one by one": _UNPACKED + entry(7, VARINT, 1) + entry(7, VARINT, 2**40),
    "integers in two parts": _UNPACKED + entry(7, BYTES, b"\x01") + entry(7, BYTES, b"\x02"),
    "integers of a wrong wire type": _UNPACKED + entry(7, FIXED64, bytes(8)) * 2,
    "numbers one by one": stored()[:-18] + entry(4, FIXED32, bytes(4)) * 4,
    "numbers of a wrong wire type": stored() + entry(4, FIXED64, bytes(8)) * 4,
    "raw data twice": stored() + entry(9, BYTES, bytes(8)),
    "raw data of a wrong wire type": stored() + entry(9, VARINT, 9),
    "a type twice": stored() + entry(2, VARINT, 7),
    "a name twice": stored() + entry(8, BYTES, b"other"),
    "a place twice": stored(outside=True) + entry(14, VARINT, 1) + entry(14, VARINT, 0),
    "a place of a wrong wire type": stored(outside=True) + entry(14, BYTES, b"\x01"),
    "a place in a long number": stored(outside=True) + varint(14 << 3) + b"\x81\x80\x00",
    "a tag in a long number": stored(outside=True) + b"\xf0\x80\x00\x01",
    "entries of a wrong wire type": stored() + entry(13, VARINT, 1),
    "an unknown field": stored() + entry(2**29 - 1, BYTES, b"x"),
    "an entry with two keys": stored()
    + entry(13, BYTES, entry(1, BYTES, b"a") + entry(1, BYTES, b"location")),
}

# What parsers read in more than one way.
REFUSED: dict[str, bytes] = {
    "a place of 2^32 + 1": stored(outside=True) + entry(14, VARINT, 2**32 + 1),
    "a place of 2^63 + 1": stored(outside=True) + entry(14, VARINT, 2**63 + 1),
    "an unknown place": stored(outside=True) + entry(14, VARINT, 1) + entry(14, VARINT, 2),
    "a tag of 2^32": stored(outside=True) + varint((14 << 3) + 2**32) + b"\x01",
    "a tag of 2^35": stored(outside=True) + varint((14 << 3) + 2**35) + b"\x01",
    "a tag of six bytes": stored(outside=True) + b"\xf0\x80\x80\x80\x80\x00\x01",
    "field 0": stored() + b"\x02\x00",
    "a type of 2^32 + 1": stored() + entry(2, VARINT, 2**32 + 1),
    "a type below 0": stored() + entry(2, VARINT, 2**64 - 1),
    "a number of 11 bytes": _UNPACKED + varint(7 << 3) + b"\x80" * 10 + b"\x01",
    "a number of 65 bits": _UNPACKED + varint(7 << 3) + b"\x80" * 9 + b"\x02",
    "a size of six bytes": stored() + varint(8 << 3 | 2) + b"\x81\x80\x80\x80\x80\x00" + b"n",
    "a group": stored() + varint(99 << 3 | 3) + varint(99 << 3 | 4),
    "the end of a group": stored() + varint(99 << 3 | 4),
    "a wire type of 6": stored() + varint(99 << 3 | 6),
    "a name that is not UTF-8": stored() + entry(8, BYTES, b"\xff"),
    "numbers that are cut": _UNPACKED + entry(7, BYTES, b"\x01\x80"),
    "floats that are cut": stored() + entry(4, BYTES, bytes(7)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_bytes_are_read_as_protobuf_reads_them(kind: str) -> None:
    assert agrees(of_tensor(ODD[kind]))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_parsers_may_read_otherwise_is_refused(kind: str) -> None:
    with pytest.raises(WireError):
        ours(of_tensor(REFUSED[kind]))


def test_messages_that_stand_twice_are_merged() -> None:
    tensor, other = stored("a"), entry(1, VARINT, 3) + entry(8, BYTES, b"b")
    twice = [
        entry(1, BYTES, entry(5, BYTES, entry(1, BYTES, b"v") + entry(5, BYTES, tensor)
                              + entry(5, BYTES, other))),
        entry(15, BYTES, entry(1, BYTES, tensor) + entry(1, BYTES, other) + entry(2, BYTES, tensor)
              + entry(2, BYTES, other) + entry(3, VARINT, 9)),
        entry(1, BYTES, entry(5, BYTES, entry(22, BYTES, entry(1, BYTES, tensor))
                              + entry(22, BYTES, entry(1, BYTES, other)))),
        entry(1, BYTES, entry(5, BYTES, entry(6, BYTES, entry(2, BYTES, b"g"))
                              + entry(6, BYTES, entry(5, BYTES, tensor)))),
    ]  # fmt: skip
    for graph in twice:
        assert agrees(entry(7, BYTES, graph) + entry(7, BYTES, entry(5, BYTES, stored("c"))))


def test_attributes_that_stand_twice_are_refused() -> None:
    attribute = entry(5, BYTES, entry(1, BYTES, b"shape") + entry(8, VARINT, 1))
    kinds = entry(5, BYTES, entry(1, BYTES, b"k") + entry(3, VARINT, 1) + entry(8, VARINT, 1))
    for content in (attribute * 2, kinds):
        with pytest.raises(WireError, match="attribute"):
            ours(entry(7, BYTES, entry(1, BYTES, content)))


def _values(rng: random.Random) -> bytes:
    """A field of any number and wire type, often one that is known."""
    number = rng.choice((*range(1, 17), 20, 22, 23, 25, 99, 2**29 - 1))
    wire = rng.choice((VARINT, VARINT, BYTES, BYTES, BYTES, FIXED64, FIXED32))
    numbers = (0, 1, 2, 7, 127, 128, 2**31, 2**32 + 1, 2**63, 2**64 - 1)
    content: dict[int, Callable[[], int | bytes]] = {
        VARINT: lambda: rng.choice(numbers),
        BYTES: lambda: b"".join(varint(rng.choice(numbers)) for _ in range(rng.randrange(4))),
        FIXED64: lambda: bytes(8),
        FIXED32: lambda: bytes(4),
    }
    made = entry(number, wire, content[wire]())
    return entry(number, BYTES, made) if rng.random() < 0.2 else made


def _wrapped(rng: random.Random, content: bytes) -> bytes:
    """Fields in a message somewhere in a file."""
    paths: Sequence[Sequence[int]] = (
        (7, 5), (7, 1), (7, 1, 5), (7, 1, 5, 5), (7, 15), (7, 15, 1), (7,), (25,), (25, 7, 5), (),
        (7, 1, 5, 6), (7, 1, 5, 6, 5), (7, 5, 13), (7, 11), (7, 1, 5, 22, 1),
    )  # fmt: skip
    for number in reversed(rng.choice(paths)):
        content = entry(number, BYTES, content)
    return content


def _base() -> bytes:
    tensor = numpy_helper.from_array(_TWO, "i")
    outside = TensorProto(name="o", dims=[2], data_type=1, data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="w.data")
    body = helper.make_graph([node("Relu", ["x"], ["z"])], "b", [], [], [tensor])
    made = [
        node("Constant", [], ["c"], value=tensor),
        node("If", ["x"], ["y"], then_branch=body, else_branch=body),
        node("Transpose", ["x"], ["t"], perm=[1, 0], axis=2),
    ]
    model = graph_of(made, {"i": _TWO})
    model.graph.initializer.add().CopyFrom(outside)
    return model.SerializeToString()


def test_any_bytes_are_read_as_protobuf_reads_them() -> None:
    """Honest files with bits flipped, parts cut out, and fields of all kinds put behind."""
    rng = random.Random(7)
    base, both = _base(), 0
    for _ in range(FILES):
        content = bytearray(base)
        form = rng.randrange(3)
        if form == 0:
            for _ in range(rng.choice((1, 1, 2, 4))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif form == 1:
            at = rng.randrange(len(content))
            content[at : at + rng.randrange(9)] = _values(rng)
        else:
            for _ in range(rng.choice((1, 2, 3))):
                fields = b"".join(_values(rng) for _ in range(rng.choice((1, 2, 4))))
                content += _wrapped(rng, fields)
        both += agrees(bytes(content))
    assert both > FILES // 5
