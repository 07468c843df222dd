"""Files of one size, traced without dynamic axes, brought to any size up to it.

A tracer writes the batch and sequence of its example as numbers: targets of Reshape and Expand,
rows of positions, masks. The graph is walked once. Each operator runs at the sizes of `observe`
and at the traced one. It is mended before that where a number of the trace meets an axis that is
known to be the batch or the sequence.

A row that is shorter is the traced row with padding behind it. So a constant that is too long is
cut from its start. `verify` holds the result against the file on rows that are padded to its size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.align import align, spread
from qdeploy.exporter.from_onnx.edit import given, is_standard
from qdeploy.exporter.from_onnx.observe import POINTS, Size, fit
from qdeploy.exporter.from_onnx.walk import BATCH_SIZE, BROADCAST, SEQUENCE_SIZE, Walk
from qdeploy.types import Array

LEAST = 16  # tokens of a row that is worth an engine; the sizes of `observe` are below it
REMEDY = (
    "Export the checkpoint again with dynamic axes for batch and sequence (`dynamic_axes=` of "
    "torch.onnx.export; `optimum-cli export onnx` has them), or pass the checkpoint itself."
)
_FREE = (11, 23)  # batch and sequence where a file leaves one of them free
_ONE: Size = (1, 0, 0, 0)
_KEEP: Size = (-1, 0, 0, 0)


@dataclass(frozen=True)
class Traced:
    """The size that a file was traced with; None of an axis that it leaves free."""

    batch: int | None
    sequence: int | None

    def __str__(self) -> str:
        return f"[{self.batch or 'batch'}, {self.sequence or 'sequence'}]"

    @property
    def point(self) -> tuple[int, int]:
        """A batch and sequence that the file takes."""
        return self.batch or _FREE[0], self.sequence or _FREE[1]


def traced_size(model: ir.Model) -> Traced | None:
    """The size that a file says of its inputs; None where it says none, or several."""
    stored = set(model.graph.initializers.values())
    said = {
        tuple(size if isinstance(size, int) else None for size in value.shape)
        for value in model.graph.inputs
        if value not in stored and value.shape is not None
    }
    found = said.pop() if len(said) == 1 else ()
    if len(found) != 2 or found == (None, None):
        return None
    return Traced(*found)


def unfreeze(model: ir.Model, vocabulary: int, traced: Traced, origin: str) -> None:
    """Free a graph from the size it was traced with, in place.

    1. Assumes inputs [batch, sequence], a mask that hides padding, and no subgraphs.
    2. Recognizes targets of Reshape and Expand, and constants of the traced size that meet an axis
       of batch or sequence.
    3. Guarantees the same graph at the traced size; `verify` looks at the others.
    4. Leaves numbers that are no sizes.

    Raises:
        CheckpointError: rows are too short to be of use, or an operator does not take other sizes.
    """
    if traced.sequence is not None and traced.sequence < LEAST:
        raise CheckpointError(
            f"{origin} was exported for batches of {traced} alone, and rows of {traced.sequence} "
            f"tokens are of no use. {REMEDY}"
        )
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    walk = _Mender(model, vocabulary, traced.point)
    nodes = list(model.graph)
    readers = Counter(value for node in nodes for value in node.inputs)
    for node in nodes:
        read = node.inputs
        for value in node.outputs:
            value.shape = None
        try:
            walk.mend(node)
            walk.run(node)
        except Exception as error:  # numpy's and onnx's own, of whichever operator it is
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise CheckpointError(
                f"{origin} was exported for batches of {traced} alone, and what its "
                f"{node.op_type} {node.name} does with others cannot be told ({reason}). {REMEDY}"
            ) from error
        readers.subtract(read)
        walk.forget(value for value in read if value is not None and not readers[value])
    walk.edit.finish()


class _Mender(Walk):
    """A walk that gives operators inputs that fit every size."""

    def mend(self, node: ir.Node) -> None:
        """Give an operator inputs that fit every size."""
        if is_standard(node, "Reshape"):
            self._reshape(node)
        elif is_standard(node, "Expand"):
            self._expand(node)
        elif is_standard(node, "Gather", "GatherND"):
            self._gather(node)
        elif is_standard(node, "GatherElements"):
            self._elements(node)
        elif is_standard(node, *BROADCAST):
            self._broadcast(node, range(len(node.inputs)), 0)
        elif is_standard(node, "MatMul"):
            self._broadcast(node, (0, 1), 2)
        elif is_standard(node, "Concat"):
            self._joined(node)

    def _numbers(self, value: ir.Value) -> tuple[list[int], tuple[Size | None, ...]]:
        """A vector of sizes at the traced size, and as functions."""
        flat = [array.reshape(-1).tolist() for array in self.arrays(value)]
        return flat[-1], tuple(fit(column) for column in zip(*flat[: len(POINTS)], strict=True))

    def _reshape(self, node: ir.Node) -> None:
        source, target = node.inputs[0], node.inputs[1]
        assert source is not None and target is not None
        before = self.shape(source)
        if all(size is not None and not any(size[1:]) for size in before):
            return
        wanted, _ = self._numbers(target)
        shape = self.arrays(source)[-1].shape
        result: list[int] = list(np.empty(shape, np.bool_).reshape(_resolved(wanted, shape)).shape)
        found = align(before, result, *self.point)
        if found is None:
            raise ValueError(f"{list(shape)} becomes {result}, and which axis is which is open")
        self._retarget(node, found)

    def _retarget(self, node: ir.Node, found: Sequence[Size]) -> None:
        """Give a Reshape or an Expand this target, with −1 for what is neither batch nor tokens."""
        plain = (BATCH_SIZE, SEQUENCE_SIZE)
        others = [at for at, n in enumerate(found) if any(n[1:]) and n not in plain]
        if len(others) > 1:
            raise ValueError("two of its axes are products of batch or sequence")
        numbers = tuple(_KEEP if at in others else n for at, n in enumerate(found))
        node.replace_input_with(1, self.vector(numbers))

    def _expand(self, node: ir.Node) -> None:
        source, target = node.inputs[0], node.inputs[1]
        assert source is not None and target is not None
        wanted, sizes = self._numbers(target)
        if any(size is None or any(size[1:]) for size in sizes):
            return  # it is computed from the batch
        ahead = len(self.arrays(source)[-1].shape) - len(wanted)
        wanted = [1] * ahead + wanted
        met = self.beside(node.outputs[0], len(wanted))
        self._retarget(node, spread(self.shape(source), wanted, self.point, met))

    def _gather(self, node: ir.Node) -> None:
        """All rows of a tensor in their order are a Reshape: of a mask, by the number of each."""
        source, index = node.inputs[0], node.inputs[1]
        assert source is not None and index is not None
        rows, places = self.arrays(source)[-1], self.arrays(index)[-1]
        before, count = self.shape(source), 1
        wanted, flat = places.shape, places.reshape(-1)
        if node.op_type == "GatherND":
            count, wanted = places.shape[-1], places.shape[:-1]
            flat = places.reshape(-1, count) @ np.array(
                [math.prod(rows.shape[at + 1 : count]) for at in range(count)], np.int64
            )
        moved = node.attributes.get_int("axis", 0) or node.attributes.get_int("batch_dims", 0)
        if moved or not any(any((size or _KEEP)[1:]) for size in before[:count]):
            return
        if not np.array_equal(flat, np.arange(math.prod(rows.shape[:count]))):
            return
        found = align(before[:count], wanted, *self.point)
        rest = [size for size in before[count:] if size is not None]
        if found is None or len(rest) < len(before) - count:
            raise ValueError(f"it takes {len(flat)} rows as {list(wanted)}")
        node.op_type = "Reshape"
        node.attributes.clear()
        self._retarget(node, [*found, *rest])

    def _elements(self, node: ir.Node) -> None:
        """GatherElements has one row of indices for each row of data."""
        data, index = node.inputs[0], node.inputs[1]
        assert data is not None and index is not None
        own = node.attributes.get_int("axis", 0)
        pairs = list(zip(self.shape(data), self.shape(index), strict=True))
        own %= len(pairs)
        target, ends, kept = [_ONE] * len(pairs), dict[int, Size](), dict[int, Size]()
        for axis, (stored, wanted) in enumerate(pairs):
            if axis == own or stored is None or wanted is None:
                continue
            end = self._end(index, axis, wanted, (stored,))
            if end is not None:
                ends[axis - len(pairs)] = end
            if (short := self._end(data, axis, stored, (wanted,))) is not None:
                kept[axis - len(pairs)] = stored = short
            if stored == _ONE and any(wanted[1:]):
                target[axis] = wanted
        if ends:
            node.replace_input_with(1, self.cut(index, ends))
        if kept:
            data = self.cut(data, kept)
            node.replace_input_with(0, data)
        if any(size != _ONE for size in target):
            shape = self.vector(tuple(target))
            new = self.edit.add("Expand", [data, shape], name="sizes/Expand")
            self.known[new] = [
                array * np.ones(sizes, array.dtype)
                for array, sizes in zip(self.arrays(data), self.known[shape], strict=True)
            ]
            node.replace_input_with(0, new)

    def _broadcast(self, node: ir.Node, places: Sequence[int], matrix: int) -> None:
        """Cut what is of the traced size where it meets batch or sequence.

        Args:
            matrix: last axes that are no axes of broadcasting.
        """
        read = [(at, value) for at in places if (value := given(node, at)) is not None]
        shapes = {at: self.shape(value) for at, value in read}
        longest = max(map(len, shapes.values()))
        for at, value in read:
            ends: dict[int, Size] = {}
            for back in range(1 + matrix, longest + 1):
                met = [s[-back] for s in shapes.values() if len(s) >= back]
                size = shapes[at][-back] if len(shapes[at]) >= back else _ONE
                end = self._end(value, -back, size, met)
                if end is not None:
                    ends[-back] = end
            if ends:
                node.replace_input_with(at, self.cut(value, ends))

    def _end(
        self, value: ir.Value, axis: int, size: Size | None, met: Sequence[Size | None]
    ) -> Size | None:
        """Where a constant axis has to end, for what it meets; None where it may stay."""
        if size is None or any(size[1:]) or size == _ONE:
            return None
        batch, sequence = self.point
        if size[0] == sequence:
            if SEQUENCE_SIZE in met:
                return SEQUENCE_SIZE
            array = self.arrays(value)[-1]
            is_mask = array.dtype == np.bool_ and self.is_constant(value)
            if is_mask and np.array_equal(array, _first(array, axis, array)):
                return _ONE  # the same for every token
        if size[0] == batch and BATCH_SIZE in met:
            arrays = self.arrays(value)
            if all(np.array_equal(a, _first(a, axis, a)) for a in arrays):
                return _ONE
            raise ValueError("a constant differs between the rows of its batch")
        return None

    def _joined(self, node: ir.Node) -> None:
        """Cut what is of the traced size beside an axis of batch or sequence in a Concat."""
        read = [value for value in node.inputs if value is not None]
        shapes = [self.shape(value) for value in read]
        rank = len(shapes[0])
        own = node.attributes["axis"].as_int() % rank
        for at, value in enumerate(read):
            ends = {
                axis - rank: end
                for axis in range(rank)
                if axis != own
                and (end := self._end(value, axis, shapes[at][axis], [s[axis] for s in shapes]))
            }
            if ends:
                node.replace_input_with(at, self.cut(value, ends))


def _first(array: Array, axis: int, like: Array) -> Array:
    """The first element along an axis, as often as the array has elements there."""
    return np.broadcast_to(np.take(array, [0], axis), like.shape)


def _resolved(target: Sequence[int], shape: Sequence[int]) -> list[int]:
    """A target with 0 replaced by what the input has there."""
    return [shape[at] if number == 0 else number for at, number in enumerate(target)]
