"""An ONNX file's structure, read from its bytes without a copy of a weight.

Parsers of protobuf make objects of everything that a file holds before anybody can look at it: two
bytes of a file may take a hundred of memory. Here only what the rules of `onnx_files` need is kept,
weights are stepped over, and the reading stops at limits. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap

from qdeploy.onnx_file.structure import (
    KEPT,
    MAX_BODIES,
    MAX_DEPTH,
    MAX_NODES,
    File,
    Graph,
    Node,
    Tensor,
    WireError,
)
from qdeploy.onnx_file.wire import BYTES, FIXED32, FIXED64, VARINT, Wire, signed, small


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


# float, int32, string, int64, double and uint64 data: the wire type of one number, and the bytes of
# each where they stand without tags (0: they differ; strings have tags always).
_STORES = {4: (FIXED32, 4), 5: (VARINT, 0), 6: (BYTES, 0), 7: (VARINT, 0)}
_STORES |= {10: (FIXED64, 8), 11: (VARINT, 0)}
_INT64S = 7


class _Reader(Wire):
    def __init__(self, data: bytes | mmap.mmap) -> None:
        super().__init__(data)
        self.nodes = self._bodies = 0
        self._file = File()

    def model(self, end: int) -> File:
        """ModelProto."""
        file = self._file
        for number, wire, start, stop in self.fields(0, end):
            if wire != BYTES:
                continue
            if number == 7:
                file.graph = self._graph(start, stop, 0, file.graph)
            elif number == 25:
                file.functions.append(self._function(start, stop))
            elif number == 8:
                self.skip("opset", start, stop)
            elif number == 14:
                self.skip("pair", start, stop)
            elif number == 26:
                self.skip("device", start, stop)
            elif number == 20:
                raise WireError("it holds steps of a training, which no engine has a use for")
        return file

    def _graph(self, start: int, stop: int, depth: int, found: Graph | None = None) -> Graph:
        """GraphProto; a second one of the same field is merged into the first, as parsers do."""
        if depth > MAX_DEPTH:
            raise WireError(f"bodies of nodes stand in each other more than {MAX_DEPTH} deep")
        if depth:
            self._one_body()
        graph = Graph() if found is None else found
        for number, wire, begin, end in self.fields(start, stop):
            if wire != BYTES:
                continue
            if number == 1:
                graph.nodes.append(self._node(begin, end, depth))
            elif number == 2:
                graph.name = self.text(begin, end)
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
                self.skip("annotation", begin, end)
            elif number == 16:
                self.skip("pair", begin, end)
        return graph

    def _one_body(self) -> None:
        self._bodies += 1
        if self._bodies > MAX_BODIES:
            raise WireError(f"it has more than {MAX_BODIES:,} functions and bodies of nodes")

    def _function(self, start: int, stop: int) -> Graph:
        """FunctionProto."""
        self._one_body()
        graph = Graph()
        for number, wire, begin, end in self.fields(start, stop):
            if wire != BYTES:
                continue
            if number == 7:
                graph.nodes.append(self._node(begin, end, 0))
            elif number == 4:
                graph.inputs.append(self.text(begin, end))
            elif number == 5:
                graph.outputs.append(self.text(begin, end))
            elif number in (1, 10, 13):
                field_ = {1: "name", 10: "domain", 13: "overload"}[number]
                setattr(graph, field_, self.text(begin, end))
            elif number == 11:
                self._attribute(Node(), begin, end, 0)
            elif number == 12:
                self._value(begin, end)
            elif number in (9, 14):
                self.skip("opset" if number == 9 else "pair", begin, end)
        return graph

    def _value(self, start: int, stop: int) -> str:
        """ValueInfoProto: its name; the type is counted."""
        name = ""
        for number, wire, begin, end in self.fields(start, stop):
            if wire == BYTES and number == 1:
                name = self.text(begin, end)
            elif wire == BYTES and number == 2:
                self.skip("type", begin, end)
            elif wire == BYTES and number == 4:
                self.skip("pair", begin, end)
        return name

    def _node(self, start: int, stop: int, depth: int) -> Node:
        """NodeProto."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise WireError(f"it has more than {MAX_NODES:,} nodes")
        node = Node()
        named = set()
        for number, wire, begin, end in self.fields(start, stop):
            if wire != BYTES:
                continue
            if number == 1:
                node.inputs.append(self.text(begin, end))
            elif number == 2:
                node.outputs.append(self.text(begin, end))
            elif number == 3:
                node.name = self.text(begin, end)
            elif number == 4:
                node.op_type = self.text(begin, end)
            elif number == 5:
                name = self._attribute(node, begin, end, depth)
                if name in named:
                    raise WireError("a node in it has an attribute twice")
                named.add(name)
            elif number == 7:
                node.domain = self.text(begin, end)
            elif number == 8:
                node.overload = self.text(begin, end)
            elif number in (9, 10):
                self.skip("pair" if number == 9 else "device", begin, end)
        return node

    def _attribute(self, node: Node, start: int, stop: int, depth: int) -> str:
        """AttributeProto, which goes to its node; its name.

        A body, tensor or sparse tensor that stands in it twice is merged, as parsers do.
        """
        name, body = "", None
        number_, numbers = None, list[int]()
        tensor: Tensor | None = None
        sparse: Tensor | None = None
        for number, wire, begin, end in self.fields(start, stop):
            if number == 3 and wire == VARINT:
                number_ = signed(begin)
            elif number == 8 and wire in (VARINT, BYTES):
                numbers += [signed(begin)] if wire == VARINT else self.packed(begin, end)
            elif wire != BYTES:
                continue
            elif number == 1:
                name = self.text(begin, end)
            elif number == 5:
                tensor = self._tensor(begin, end, tensor)
            elif number == 10:
                self._tensor(begin, end)
            elif number == 6:
                body = self._graph(begin, end, depth + 1, body)
            elif number == 11:
                node.bodies.append(self._graph(begin, end, depth + 1))
            elif number == 22:
                sparse = self._sparse(begin, end, sparse)
            elif number == 23:
                self._sparse(begin, end)
            elif number in (14, 15):
                self.skip("type", begin, end)
        if number_ is not None and numbers:
            raise WireError("an attribute in it has values of two kinds")
        if body is not None:
            node.bodies.append(body)
        if tensor is not None:
            node.tensors[name] = tensor
        if number_ is not None or numbers:
            node.integers[name] = numbers if number_ is None else [number_]
        return name

    def _sparse(self, start: int, stop: int, found: Tensor | None = None) -> Tensor:
        """SparseTensorProto: its numbers, which have its name, and its places are tensors."""
        values, places = found, None
        dims: list[int] = []
        for number, wire, begin, end in self.fields(start, stop):
            if wire == BYTES and number == 1:
                values = self._tensor(begin, end, values)
            elif wire == BYTES and number == 2:
                places = self._tensor(begin, end, places)
            elif number == 3 and wire in (VARINT, BYTES):
                dims += [signed(begin)] if wire == VARINT else self.packed(begin, end)
        made = Tensor() if values is None else values
        made.dense += dims
        return made

    def _tensor(self, start: int, stop: int, found: Tensor | None = None) -> Tensor:
        """TensorProto."""
        tensor = Tensor() if found is None else found
        for number, wire, begin, end in self.fields(start, stop):
            if number == 1 and wire in (VARINT, BYTES):
                tensor.dims += [signed(begin)] if wire == VARINT else self.packed(begin, end)
            elif number == 2 and wire == VARINT:
                tensor.data_type = small(begin, "a type")
            elif number == 14 and wire == VARINT:
                if begin > 1:
                    raise WireError("a tensor in it says where it stands by an unknown number")
                tensor.is_external = begin == 1
            elif number == 3 and wire == BYTES:
                raise WireError("a tensor in it is cut into segments, which nothing reads")
            elif number in _STORES:
                self._numbers(tensor, number, wire, begin, end)
            elif wire == BYTES:
                self._tensor_text(tensor, number, begin, end)
        if found is None:
            self._file.tensors.append(tensor)
            if len(self._file.tensors) > MAX_NODES:
                raise WireError(f"it has more than {MAX_NODES:,} tensors")
        return tensor

    def _tensor_text(self, tensor: Tensor, number: int, start: int, stop: int) -> None:
        if number == 8:
            tensor.name = self.text(start, stop)
        elif number == 9:
            tensor.raw = stop - start
            tensor.small = self.data[start:stop] if stop - start <= 8 * KEPT else b""
        elif number == 13:
            entry = {n: self.text(b, e) for n, w, b, e in self.fields(start, stop)
                     if w == BYTES and n in (1, 2)}  # fmt: skip
            tensor.external.setdefault(entry.get(1, ""), []).append(entry.get(2, ""))
        elif number == 16:
            self.skip("pair", start, stop)

    def _numbers(self, tensor: Tensor, number: int, wire: int, start: int, stop: int) -> None:
        """Numbers in fields of their own type: how many there are, and the first integers."""
        one, width = _STORES[number]
        if wire == one:
            count = 1
        elif wire != BYTES:
            return
        elif not width:
            count = self.count_packed(start, stop)
        elif (stop - start) % width:
            raise WireError("it ends in the middle of a field")
        else:
            count = (stop - start) // width
        total = tensor.counts[number] = tensor.counts.get(number, 0) + count
        if number == _INT64S and total <= KEPT:
            found = [signed(start)] if wire == one else self.packed(start, stop)
            tensor.integers += found
