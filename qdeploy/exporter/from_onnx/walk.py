"""A graph node by node, at several sizes of its batch: what `unfreeze` decides by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.align import size_at
from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard
from qdeploy.exporter.from_onnx.observe import POINTS, Size, feeds, fit
from qdeploy.types import Array

BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Where", "Equal", "Less", "Greater", "Min", "Max"),
    *("LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor"),
)
BATCH_SIZE: Size = (0, 1, 0, 0)
SEQUENCE_SIZE: Size = (0, 0, 1, 0)


class Walk:
    """What each value is at the sizes of `POINTS`, and at the traced one, which is the last."""

    def __init__(self, model: ir.Model, vocabulary: int, point: tuple[int, int]) -> None:
        self.edit, self.point = Edit(model), point
        self.points = (*POINTS, point)
        self._opsets = dict(model.opset_imports)
        ids = next(value for value in model.graph.inputs if value.name == "input_ids")
        self._whole = self.edit.add("Shape", [ids], name="sizes/Shape")
        self._vectors: dict[tuple[Size, ...], ir.Value] = {}
        self.known: dict[ir.Value, list[Array]] = {}
        batches = [feeds(model, *at, vocabulary) for at in self.points]
        for value in model.graph.inputs:
            self.known[value] = [batch[str(value.name)] for batch in batches]

    def arrays(self, value: ir.Value) -> list[Array]:
        if value not in self.known:
            array = array_of(value)
            assert array is not None, f"{value.name} is not known"
            self.known[value] = [array] * len(self.points)
        return self.known[value]

    def forget(self, values: Iterable[ir.Value]) -> None:
        """Of values that no operator reads any more."""
        for value in values:
            self.known.pop(value, None)

    def shape(self, value: ir.Value) -> tuple[Size | None, ...]:
        """Sizes of the axes as functions of batch and sequence."""
        shapes = [array.shape for array in self.arrays(value)[: len(POINTS)]]
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError("its number of axes depends on the batch")
        return tuple(fit(sizes) for sizes in zip(*shapes, strict=True))

    def beside(self, value: ir.Value, rank: int) -> tuple[Size | None, ...]:
        """Sizes of what a value meets, or what is made of it by element; empty where none is known.

        What stands beside it reads its sizes from the batch: a constant may be of the traced size.
        """
        queue = [value]
        for one in queue:
            readers = [node for node, _ in one.uses()]
            for other in (read for node in readers for read in node.inputs):
                if other in self.known and other is not one and not self.is_constant(other):
                    found = self.shape(other)
                    if len(found) == rank:
                        return found
            for node in readers:
                if is_standard(node, "Cast", "Not", *BROADCAST) and node.outputs[0] not in queue:
                    queue.append(node.outputs[0])
        return ()

    def vector(self, numbers: tuple[Size, ...]) -> ir.Value:
        """int64 [N] of constants, batch and sequence, of operators that opset 11 has."""
        if numbers in self._vectors:
            return self._vectors[numbers]
        if not any(any(number[1:]) for number in numbers):
            made = self.edit.integers("sizes/constant", [number[0] for number in numbers])
        elif len(numbers) == 1:
            place = self.edit.integers("sizes/place", [0 if numbers[0] == BATCH_SIZE else 1])
            made = self.edit.add("Gather", [self._whole, place], name="sizes/Gather", axis=0)
        else:
            pieces = [self.vector((number,)) for number in numbers]
            made = self.edit.add("Concat", pieces, name="sizes/Concat", axis=0)
        self._vectors[numbers] = made
        self.known[made] = [
            np.array([size_at(n, *point) for n in numbers], np.int64) for point in self.points
        ]
        return made

    def run(self, node: ir.Node) -> None:
        """One operator at every size, in a session of its own."""
        import onnxruntime

        read = list(dict.fromkeys(v for v in node.inputs if v is not None and v.name))
        kept = [value for value in node.outputs if value.name]
        columns = [self.arrays(value) for value in read]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            self._alone(node, read), options, providers=["CPUExecutionProvider"]
        )
        fixed = all(all(array is column[0] for array in column) for column in columns)
        found: list[list[Array]] = []
        for at in range(len(self.points)):
            if fixed and found:
                found.append(found[0])
                continue
            named = {str(v.name): c[at] for v, c in zip(read, columns, strict=True)}
            found.append(session.run([str(value.name) for value in kept], named))
        for value, results in zip(kept, zip(*found, strict=True), strict=True):
            self.known[value] = list(results)

    def _alone(self, node: ir.Node, read: Sequence[ir.Value]) -> bytes:
        """A graph of this node, whose inputs may have any shape."""
        inputs = {
            value: ir.Value(
                name=value.name,
                type=ir.TensorType(ir.DataType.from_numpy(self.arrays(value)[0].dtype)),
            )
            for value in read
        }
        copy = ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else inputs.get(value) for value in node.inputs],
            node.attributes.values(),
            outputs=[ir.Value(name=value.name) for value in node.outputs],
        )
        graph = ir.Graph(
            list(inputs.values()),
            [value for value in copy.outputs if value.name],
            nodes=[copy],
            opset_imports=self._opsets,
            name="alone",
        )
        return bytes(ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString())

    def is_constant(self, value: ir.Value) -> bool:
        arrays = self.arrays(value)
        return all(array is arrays[0] for array in arrays)

    def cut(self, value: ir.Value, ends: dict[int, Size]) -> ir.Value:
        """The first elements along some axes."""
        rank = self.arrays(value)[0].ndim
        axes = [axis + rank for axis in ends]
        starts = self.edit.integers("sizes/start", [0] * len(axes))
        stop = self.vector(tuple(ends.values()))
        along = self.edit.integers("sizes/axes", axes)
        new = self.edit.add("Slice", [value, starts, stop, along], name="sizes/Slice")
        cut = []
        for array, point in zip(self.arrays(value), self.points, strict=True):
            index = [slice(None)] * rank
            for axis, end in zip(axes, ends.values(), strict=True):
                index[axis] = slice(size_at(end, *point))
            cut.append(array[tuple(index)])
        constant = self.is_constant(value) and not any(any(end[1:]) for end in ends.values())
        self.known[new] = [cut[0]] * len(cut) if constant else cut
        return new
