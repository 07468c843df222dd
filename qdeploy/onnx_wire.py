"""An ONNX file's structure, read from its bytes without a copy of a weight.

Parsers of protobuf make objects of everything that a file holds before anybody can look at it: two
bytes of a file may take a hundred of memory. Here only what the rules of `onnx_files` need is kept,
weights are stepped over, and the reading stops at limits. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from qdeploy.onnx_structure import (
    MAX_BODIES,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_NODES,
    SMALL,
    File,
    Graph,
    Node,
    Tensor,
    WireError,
)


def read_structure(data: bytes | mmap.mmap) -> File:
    """The structure of a file.

    Args:
        data: all of it; a memory map will do.

    Raises:
        WireError: it is cut, damaged, not ONNX, or beyond the limits.
    """
    try:
        return _Reader(data).model(len(data))
    except IndexError:
        raise WireError("it ends in the middle of a field") from None


# Fields of messages that are not looked into, but counted: number → the message in it.
_COUNTED: dict[str, dict[int, str]] = {
    "pair": {},
    "opset": {},
    "dimension": {},
    "shape": {1: "dimension"},
    "tensor type": {2: "shape"},
    "sequence": {1: "type"},
    "map": {2: "type"},
    "type": {1: "tensor type", 4: "sequence", 5: "map", 8: "tensor type", 9: "sequence"},
    "annotation": {2: "pair"},
    "device": {2: "sharding"},
    "sharding": {3: "group", 4: "sharded dimension"},
    "group": {},
    "sharded dimension": {2: "dimension"},
    "training": {3: "pair", 4: "pair"},
}


class _Reader:
    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._read = self._nodes = self._bodies = 0
        self._file = File()

    def model(self, end: int) -> File:
        """ModelProto."""
        file = self._file
        for number, wire, start, stop in self._fields(0, end):
            if wire != 2:
                continue
            if number == 7:
                file.graph = self._graph(start, stop, 0, file.graph)
            elif number == 25:
                file.functions.append(self._function(start, stop))
            elif number == 8:
                self._count("opset", start, stop, 1)
            elif number == 14:
                self._count("pair", start, stop, 1)
            elif number == 26:
                self._count("device", start, stop, 1)
            elif number == 20:
                raise WireError("it holds steps of a training, which no engine has a use for")
        return file

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, and the value (wire type 0) or where it starts and stops."""
        data = self._data
        while at < end:
            self._read += 1
            if self._read > MAX_FIELDS:
                raise WireError(f"it has more than {MAX_FIELDS:,} entries")
            tag = data[at]
            at += 1
            if tag >= 128:
                tag, at = self._varint(at - 1)
            wire = tag & 7
            if wire == 2:
                size = data[at]
                at += 1
                if size >= 128:
                    size, at = self._varint(at - 1)
                start, at = at, at + size
                if at > end:
                    raise WireError("it ends in the middle of a field")
                yield tag >> 3, 2, start, at
            elif wire == 0:
                value, at = self._varint(at)
                yield tag >> 3, 0, value, 0
            elif wire in (1, 5):
                start, at = at, at + (8 if wire == 1 else 4)
                yield tag >> 3, wire, start, at
            else:
                raise WireError("its fields are not those of ONNX")
        if at != end:
            raise WireError("it ends in the middle of a field")

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise WireError("a number in it has more than ten bytes")

    def _text(self, start: int, stop: int) -> str:
        return bytes(self._data[start:stop]).decode("utf-8", "backslashreplace")

    def _count(self, kind: str, start: int, stop: int, depth: int) -> None:
        """Step through a message of which nothing is kept."""
        if depth > MAX_DEPTH * 3:
            raise WireError("a type in it is nested too deeply")
        known = _COUNTED[kind]
        for number, wire, begin, end in self._fields(start, stop):
            if wire == 2 and number in known:
                self._count(known[number], begin, end, depth + 1)

    def _graph(self, start: int, stop: int, depth: int, found: Graph | None = None) -> Graph:
        """GraphProto; a second one of the same field is merged into the first, as parsers do."""
        if depth > MAX_DEPTH:
            raise WireError(f"bodies of nodes stand in each other more than {MAX_DEPTH} deep")
        if depth:
            self._bodies += 1
            if self._bodies > MAX_BODIES:
                raise WireError(f"it has more than {MAX_BODIES:,} bodies of nodes")
        graph = Graph() if found is None else found
        for number, wire, begin, end in self._fields(start, stop):
            if wire != 2:
                continue
            if number == 1:
                graph.nodes.append(self._node(begin, end, depth))
            elif number == 2:
                graph.name = self._text(begin, end)
            elif number == 5:
                graph.initializers.append(self._tensor(begin, end))
            elif number == 15:
                graph.initializers.append(self._sparse(begin, end))
            elif number == 11:
                graph.inputs.append(self._value(begin, end))
            elif number == 12:
                graph.outputs.append(self._value(begin, end))
            elif number == 13:
                self._value(begin, end)
            elif number == 14:
                self._count("annotation", begin, end, 1)
            elif number == 16:
                self._count("pair", begin, end, 1)
        return graph

    def _function(self, start: int, stop: int) -> Graph:
        """FunctionProto."""
        graph = Graph()
        for number, wire, begin, end in self._fields(start, stop):
            if wire != 2:
                continue
            if number == 7:
                graph.nodes.append(self._node(begin, end, 0))
            elif number == 4:
                graph.inputs.append(self._text(begin, end))
            elif number == 5:
                graph.outputs.append(self._text(begin, end))
            elif number in (1, 10, 13):
                field_ = {1: "name", 10: "domain", 13: "overload"}[number]
                setattr(graph, field_, self._text(begin, end))
            elif number == 11:
                self._attribute(Node(), begin, end, 0)
            elif number == 12:
                self._value(begin, end)
            elif number in (9, 14):
                self._count("opset" if number == 9 else "pair", begin, end, 1)
        return graph

    def _value(self, start: int, stop: int) -> str:
        """ValueInfoProto: its name; the type is counted."""
        name = ""
        for number, wire, begin, end in self._fields(start, stop):
            if wire == 2 and number == 1:
                name = self._text(begin, end)
            elif wire == 2 and number == 2:
                self._count("type", begin, end, 1)
            elif wire == 2 and number == 4:
                self._count("pair", begin, end, 1)
        return name

    def _node(self, start: int, stop: int, depth: int) -> Node:
        """NodeProto."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise WireError(f"it has more than {MAX_NODES:,} nodes")
        node = Node()
        for number, wire, begin, end in self._fields(start, stop):
            if wire != 2:
                continue
            if number == 1:
                node.inputs.append(self._text(begin, end))
            elif number == 2:
                node.outputs.append(self._text(begin, end))
            elif number == 3:
                node.name = self._text(begin, end)
            elif number == 4:
                node.op_type = self._text(begin, end)
            elif number == 5:
                self._attribute(node, begin, end, depth)
            elif number == 7:
                node.domain = self._text(begin, end)
            elif number == 8:
                node.overload = self._text(begin, end)
            elif number in (9, 10):
                self._count("pair" if number == 9 else "device", begin, end, 1)
        return node

    def _attribute(self, node: Node, start: int, stop: int, depth: int) -> None:
        """AttributeProto; a body that stands in it twice is merged, as parsers do."""
        name, body = "", None
        integers: list[int] = []
        tensor: Tensor | None = None
        for number, wire, begin, end in self._fields(start, stop):
            if wire == 0 and number in (3, 8):
                integers.append(_signed(begin))
            elif wire != 2:
                continue
            elif number == 1:
                name = self._text(begin, end)
            elif number == 5:
                tensor = self._tensor(begin, end, tensor)
            elif number == 8:
                integers += self._packed(begin, end)
            elif number == 10:
                self._tensor(begin, end)
            elif number == 6:
                body = self._graph(begin, end, depth + 1, body)
            elif number == 11:
                node.bodies.append(self._graph(begin, end, depth + 1))
            elif number in (22, 23):
                self._sparse(begin, end)
            elif number in (14, 15):
                self._count("type", begin, end, 1)
        if body is not None:
            node.bodies.append(body)
        if tensor is not None:
            node.tensors[name] = tensor
        if integers:
            node.integers[name] = integers

    def _packed(self, at: int, end: int) -> list[int]:
        """Numbers that stand without tags between them."""
        found = []
        while at < end:
            value, at = self._varint(at)
            found.append(_signed(value))
            self._read += 1
            if self._read > MAX_FIELDS:
                raise WireError(f"it has more than {MAX_FIELDS:,} entries")
        if at != end:
            raise WireError("it ends in the middle of a field")
        return found

    def _sparse(self, start: int, stop: int) -> Tensor:
        """SparseTensorProto: its numbers and places are tensors; the dense one is named."""
        values = Tensor()
        for number, wire, begin, end in self._fields(start, stop):
            if wire == 2 and number == 1:
                values = self._tensor(begin, end)
            elif wire == 2 and number == 2:
                self._tensor(begin, end)
        return values

    def _tensor(self, start: int, stop: int, found: Tensor | None = None) -> Tensor:
        """TensorProto."""
        tensor = Tensor() if found is None else found
        for number, wire, begin, end in self._fields(start, stop):
            if number == 1:
                tensor.dims += [_signed(begin)] if wire == 0 else self._packed(begin, end)
            elif number == 2 and wire == 0:
                tensor.data_type = begin
            elif number == 14 and wire == 0:
                tensor.is_external = begin == 1
            elif number == 3 and wire == 2:
                raise WireError("a tensor in it is cut into segments, which nothing reads")
            elif number in _WIDTHS:
                self._numbers(tensor, number, wire, begin, end)
            elif wire == 2:
                self._tensor_text(tensor, number, begin, end)
        if found is None:
            self._file.tensors.append(tensor)
            if len(self._file.tensors) > MAX_NODES:
                raise WireError(f"it has more than {MAX_NODES:,} tensors")
        return tensor

    def _tensor_text(self, tensor: Tensor, number: int, start: int, stop: int) -> None:
        if number == 8:
            tensor.name = self._text(start, stop)
        elif number == 9:
            tensor.raw = stop - start
            if stop - start <= SMALL:
                tensor.small, tensor.small_field = bytes(self._data[start:stop]), 9
        elif number == 13:
            entry = {n: self._text(b, e) for n, w, b, e in self._fields(start, stop) if w == 2}
            tensor.external.setdefault(entry.get(1, ""), []).append(entry.get(2, ""))
        elif number == 16:
            self._count("pair", start, stop, 1)

    def _numbers(self, tensor: Tensor, number: int, wire: int, start: int, stop: int) -> None:
        """Numbers in fields of their own type: how many there are, between least and most."""
        least, most = tensor.counts.get(number, (0, 0))
        width = _WIDTHS[number]
        if wire != 2 or number == 6:  # one by one
            tensor.counts[number] = (least + 1, most + 1)
            return
        size = stop - start
        if width:
            tensor.counts[number] = (least + size // width, most + size // width)
        else:  # of one to ten bytes each
            tensor.counts[number] = (least + -(-size // 10), most + size)
        if number == 7 and size <= SMALL:
            tensor.small, tensor.small_field = bytes(self._data[start:stop]), 7


# float, int32, string, int64, double and uint64 data: bytes of a number, 0 where they differ.
_WIDTHS = {4: 4, 5: 0, 6: 0, 7: 0, 10: 8, 11: 0}


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def integers_of(tensor: Tensor) -> list[int] | None:
    """The numbers of a small int64 tensor; None where it is no such one."""
    if tensor.data_type != 7 or tensor.is_external:
        return None
    if tensor.small_field == 9:
        data = tensor.small
        return [int.from_bytes(data[i : i + 8], "little", signed=True)
                for i in range(0, len(data) - 7, 8)]  # fmt: skip
    if tensor.small_field == 7:
        try:
            return _Reader(tensor.small)._packed(0, len(tensor.small))
        except IndexError:
            raise WireError("it ends in the middle of a field") from None
    return None
