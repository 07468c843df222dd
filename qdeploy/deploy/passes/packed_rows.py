"""Rows without their padding: where the tokens of a padded batch [B, S] are, in ONNX operators.

What is kept of a batch is a row's real tokens. A row that begins with padding is kept whole: heads
read the first token, and what padding attends to then matters, to an all-padding row above all. The
T kept tokens stand one behind the other, row by row. Everything here is computed from the attention
mask, once a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qdeploy.graph.editor import GraphEditor
from qdeploy.types import Array

INT64, INT32, BOOL = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL
NAME = "padding"


@dataclass
class PackedRows:
    """Indices between [B, S', …], columns that nobody uses cut off, and [1, T, …].

    Attributes:
        editor: of the graph.
        kept: bool [B, S], which tokens are kept.
        width: int64 [1], S': the columns up to the last kept token.
        places: int64 [T], the kept tokens among the B · S'.
        columns: int64 [T], the column of each.
        inverse: int64 [B, S'], the kept token of each place; of padding the one before it.
        starts: int64 [B], the first token of each row among the T.
        by_head: by number of heads, `inverse` [B, heads, S'] of tensors whose heads stand apart.
        places_by_head: `places` of them, [T, heads].
    """

    editor: GraphEditor
    kept: ir.Value
    width: ir.Value
    places: ir.Value
    columns: ir.Value
    inverse: ir.Value
    starts: ir.Value
    by_head: dict[int, ir.Value] = field(default_factory=dict)
    places_by_head: dict[int, ir.Value] = field(default_factory=dict)

    @classmethod
    def of(cls, editor: GraphEditor, mask: ir.Value) -> PackedRows:
        """Add the nodes that find them.

        Args:
            mask: int64, int32 or bool [B, S]; not zero where a token is real.
        """
        at = _Nodes(editor)
        zero, one = at.number("zero", 0), at.number("one", 1)
        real = at("Cast", [mask], "real", dtype=BOOL, to=BOOL.value)
        first = at("Gather", [real, at.ints("first_column", [0])], "first", dtype=BOOL, axis=1)
        # heads read the first token: where it is padding, the row is computed as it came
        whole = at("Not", [first], "whole_row", dtype=BOOL)
        kept = at("Or", [real, whole], "kept", dtype=BOOL)
        # the columns up to the last one that any row uses
        count = at("Cast", [kept], "kept_count", dtype=INT32, to=INT32.value)
        rows = at.ints("row_axis", [0])
        used = at("ReduceMax", [count, rows], "used", dtype=INT32, keepdims=0)
        used_columns = at("NonZero", [used], "used_columns", dtype=INT64)
        last = at("ReduceMax", [used_columns], "last", dtype=INT64, keepdims=0)
        number = at("Add", [last, one], "width_number", dtype=INT64)
        width = at("Reshape", [number, at.ints("one_entry", [1])], "width", dtype=INT64)
        # the kept tokens among those columns
        limits = [at.ints("start", [0]), width, at.ints("cut_axis", [1])]
        cut = at("Slice", [kept, *limits], "kept_cut", dtype=BOOL)
        flat = at("Reshape", [cut, at.ints("flat", [-1])], "kept_flat", dtype=BOOL)
        found = at("NonZero", [flat], "kept_places", dtype=INT64)
        places = at("Squeeze", [found, at.ints("squeezed", [0])], "places", dtype=INT64)
        # place b · S' + s stands in column s
        columns = at("Mod", [places, width], "columns", dtype=INT64)
        inverse = _inverse(at, cut, flat, "inverse")
        # the first column is kept in every row
        starts = at("Gather", [inverse, zero], "starts", dtype=INT64, axis=1)
        return cls(editor, kept, width, places, columns, inverse, starts)

    @property
    def _at(self) -> _Nodes:
        return _Nodes(self.editor)

    def cut(self, value: ir.Value) -> ir.Value:
        """[B, S] without the columns that nobody uses: [B, S']."""
        at = self._at
        numbers = [at.ints("cut_start", [0]), self.width, at.ints("cut_axis", [1])]
        kind = value.dtype or INT64
        found = at("Slice", [value, *numbers], f"{value.name}/cut", dtype=kind)
        found.shape = None if value.shape is None else value.shape.copy()
        return found

    def pack(self, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
        """[B, S', *sizes] as [1, T, *sizes]."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        flat = at(
            "Reshape", [value, at.ints("flat", [1, -1, *sizes])], f"{value.name}/flat", dtype=kind
        )
        return at("Gather", [flat, self.places], f"{value.name}/packed", dtype=kind, axis=1)

    def pack_row_free(self, value: ir.Value) -> ir.Value:
        """[1, S', H], the same for every row, as [1, T, H]."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        return at("Gather", [value, self.columns], f"{value.name}/packed", dtype=kind, axis=1)

    def heads(self, value: ir.Value, count: int, size: int) -> ir.Value:
        """[1, T, heads · size] as [B, heads, S', size]: rows and heads in one gather."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        # one index tensor serves every layer with so many heads
        if count not in self.by_head:
            rows = at(
                "Unsqueeze", [self.inverse, at.ints("head_axis", [1])], "inverse_rows", dtype=INT64
            )
            heads = at.constant("heads", np.arange(count).reshape(1, count, 1))
            factor = at.number("head_count", count)
            scaled = at("Mul", [rows, factor], "inverse_scaled", dtype=INT64)
            self.by_head[count] = at("Add", [scaled, heads], "inverse_heads", dtype=INT64)
        flat = at(
            "Reshape", [value, at.ints("flat", [-1, size])], f"{value.name}/by_head", dtype=kind
        )
        return at("Gather", [flat, self.by_head[count]], f"{value.name}/heads", dtype=kind, axis=0)

    def pack_heads(self, value: ir.Value, count: int, size: int) -> ir.Value:
        """[B, heads, S', size] as [1, T, heads · size]: rows and heads in one gather."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        if count not in self.places_by_head:
            # (b · heads + head) · S' + s, of place b · S' + s
            rows = at("Sub", [self.places, self.columns], "row_starts", dtype=INT64)
            factor = at.number("head_count", count)
            scaled = at("Mul", [rows, factor], "rows_scaled", dtype=INT64)
            start = at("Add", [scaled, self.columns], "places_scaled", dtype=INT64)
            heads = at(
                "Mul",
                [at.constant("heads", np.arange(count)), self.width],
                "head_starts",
                dtype=INT64,
            )
            column = at(
                "Unsqueeze", [start, at.ints("head_axis", [1])], "places_column", dtype=INT64
            )
            self.places_by_head[count] = at("Add", [column, heads], "places_heads", dtype=INT64)
        flat = at(
            "Reshape", [value, at.ints("flat", [-1, size])], f"{value.name}/by_head", dtype=kind
        )
        found = at(
            "Gather",
            [flat, self.places_by_head[count]],
            f"{value.name}/packed_heads",
            dtype=kind,
            axis=0,
        )
        return at(
            "Reshape",
            [found, at.ints("joined", [1, -1, count * size])],
            f"{value.name}/packed",
            dtype=kind,
        )

    def unpack(self, value: ir.Value) -> ir.Value:
        """[1, T, …] as [B, S', …]; what stands at padding is another token's and of no meaning."""
        return self._taken(value, self.inverse, "padded")

    def first(self, value: ir.Value, *, keep: bool) -> ir.Value:
        """[1, T, …] as [B, …], the first token of each row; with `keep` as [B, 1, …]."""
        found = self._taken(value, self.starts, "first")
        if not keep:
            return found
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        axis = at.ints("token_axis", [1])
        return at("Unsqueeze", [found, axis], f"{value.name}/first_token", dtype=kind)

    def output(self, value: ir.Value, rank: int) -> ir.Value:
        """[1, T, …] as [B, S, …], all columns, with zero at padding."""
        at = self._at
        flat = at("Reshape", [self.kept, at.ints("flat", [-1])], "kept_whole", dtype=BOOL)
        inverse = _inverse(at, self.kept, flat, "inverse_whole")
        found = self._taken(value, inverse, "whole")
        return self._masked(found, rank, value)

    def widen(self, value: ir.Value, rank: int) -> ir.Value:
        """[B, S', …] as [B, S, …], all columns, with zero at padding."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        # the columns that were cut come back as zeros
        whole = at("Shape", [self.kept], "length", dtype=INT64, start=1, end=2)
        missing = at("Sub", [whole, self.width], "cut_columns", dtype=INT64)
        sides: list[ir.Value | None] = [at.ints("before", [0] * (rank + 1)), missing]
        if rank > 2:
            sides.append(at.ints("behind", [0] * (rank - 2)))
        amounts = at("Concat", sides, "cut_sides", dtype=INT64, axis=0)
        found = at("Pad", [value, amounts], f"{value.name}/wide", dtype=kind)
        return self._masked(found, rank, value)

    def _masked(self, found: ir.Value, rank: int, value: ir.Value) -> ir.Value:
        """[B, S, …] with zero at padding."""
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        mask = self.kept
        if rank > 2:
            axes = at.ints("channel_axes", list(range(2, rank)))
            mask = at("Unsqueeze", [self.kept, axes], "kept_channels", dtype=BOOL)
        # nobody's answer, and the same in every batch
        none = at.constant("nothing", np.array(0, kind.numpy()))
        return at("Where", [mask, found, none], f"{value.name}/masked", dtype=kind)

    def _taken(self, value: ir.Value, indices: ir.Value, word: str) -> ir.Value:
        at, kind = self._at, value.dtype or ir.DataType.FLOAT
        found = at("Gather", [value, indices], f"{value.name}/{word}_rows", dtype=kind, axis=1)
        return at("Squeeze", [found, at.ints("squeezed", [0])], f"{value.name}/{word}", dtype=kind)


def _inverse(at: _Nodes, kept: ir.Value, flat: ir.Value, name: str) -> ir.Value:
    """Of each place of [B, S] the kept token that stands there, or before it in the same row."""
    zero, one = at.number("zero", 0), at.number("one", 1)
    # CumSum counts kept tokens up to each place; padding repeats the number of the one before
    counted = at("Cast", [flat], f"{name}_kept", dtype=INT64, to=INT64.value)
    running = at("CumSum", [counted, zero], f"{name}_count", dtype=INT64)
    index = at("Sub", [running, one], f"{name}_flat", dtype=INT64)
    return at(
        "Reshape", [index, at("Shape", [kept], f"{name}_shape", dtype=INT64)], name, dtype=INT64
    )


@dataclass
class _Nodes:
    """Nodes named after what they give."""

    editor: GraphEditor

    def __call__(
        self,
        operator: str,
        inputs: list[ir.Value | None],
        name: str,
        *,
        dtype: ir.DataType,
        **attributes: int,
    ) -> ir.Value:
        node = self.editor.node(operator, inputs, f"{NAME}/{name}", dtype=dtype)
        for key, value in attributes.items():
            node.attributes.add(ir.AttrInt64(key, value))
        return node.outputs[0]

    def constant(self, name: str, array: Array) -> ir.Value:
        return self.editor.constant(f"{NAME}/{name}", array)

    def number(self, name: str, value: int) -> ir.Value:
        return self.constant(name, np.array(value, np.int64))

    def ints(self, name: str, numbers: list[int]) -> ir.Value:
        return self.constant(name, np.array(numbers, np.int64))
