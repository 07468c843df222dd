"""Contexts in windows that overlap, each behind its question, as transformers cuts them.

A window holds the special tokens, the whole question and as much of the context as fits; the next
one begins `stride` tokens before its end. With transformers' tokenizers that is
`truncation="only_second", return_overflowing_tokens=True, stride=…`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.data.batches import Encoded
from qdeploy.data.frame import Frame
from qdeploy.data.lengths import row_limit
from qdeploy.errors import DataError, RowError
from qdeploy.types import Array

if TYPE_CHECKING:
    from tokenizers import Encoding

# Tokens of a window and of the overlap, as in transformers' examples/pytorch/question-answering.
WINDOW, STRIDE = 384, 128


@dataclass(frozen=True)
class Windows:
    """Windows of many rows, those of a row one behind the other.

    Attributes:
        encoded: their tokens, a window where other rows have a row.
        rows: int64 [W], the row of each.
        starts: int64 [W], where in its tokens the context starts.
        places: of each an int64 [C, 2]: the characters of the row's context that its C tokens of
            it stand for.
    """

    encoded: Encoded
    rows: Array
    starts: Array
    places: list[Array]


def window_limit(longest: int, wanted: int | None, taker: str = "the model") -> int:
    """Tokens of a window: what the model takes and at most 384, or what was asked for.

    Args, raises: of `row_limit`.

    >>> window_limit(512, None), window_limit(128, None), window_limit(512, 512)
    (384, 128, 512)
    """
    return row_limit(longest, min(longest, WINDOW) if wanted is None else wanted, taker)


def spans_of(count: int, room: int, stride: int, *, left: bool) -> list[tuple[int, int]]:
    """First token of each window, and the one behind its last.

    Args:
        count: tokens of the context.
        room: of them in a window.
        stride: in two neighbours, below `room`.
        left: windows are counted from the end, as of tokenizers that cut off the left.

    >>> spans_of(10, 6, 2, left=False), spans_of(10, 6, 3, left=True), spans_of(5, 6, 2, left=False)
    ([(0, 6), (4, 10)], [(4, 10), (1, 7), (0, 4)], [(0, 5)])
    """
    found = [(0, min(room, count))]
    while found[-1][1] < count:
        start = found[-1][0] + room - stride
        found.append((start, min(start + room, count)))
    return [(count - end, count - start) for start, end in found] if left else found


@dataclass
class Cutter:
    """Cuts rows into windows, one row after the other.

    Args:
        frame: special tokens around two texts.
        limit: tokens of a window.
        stride: tokens of a context in two neighbours; None is 128, and half of a window's context
            where that is less.
        left: of `spans_of`.
    """

    frame: Frame
    limit: int
    stride: int | None
    left: bool
    _tokens: dict[str, list[Array]] = field(default_factory=dict)
    _rows: list[int] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _places: list[Array] = field(default_factory=list)

    def add(self, row: int, question: Encoding, context: Encoding) -> None:
        """The windows of a row, both texts without special tokens.

        Raises:
            RowError: no room for the context, or no tokens of it.
            DataError: an overlap that leaves no room.
        """
        asked, ids, places = question.ids, context.ids, np.array(context.offsets, np.int64)
        if not ids:
            raise RowError.of(row, "the context has no tokens", "Mend or drop that row.")
        room = self.limit - self.frame.special - len(asked)
        stride = self._stride(row, room, len(asked))
        second = len(self.frame.ids) - 1 - self.frame.ids[::-1].index(None)
        for start, end in spans_of(len(ids), room, stride, left=self.left):
            whole, types = self.frame.around([asked, ids[start:end]])
            self._keep({"input_ids": whole, "token_type_ids": types,
                        "attention_mask": [1] * len(whole)})  # fmt: skip
            self._rows.append(row)
            self._starts.append(second - 1 + len(asked))
            self._places.append(places[start:end])

    def windows(self, names: Sequence[str]) -> Windows:
        """All of them, with these inputs."""
        tokens = {name: self._tokens[name] for name in names}
        lengths = np.array([len(window) for window in self._tokens["input_ids"]], np.int64)
        rows, starts = np.array(self._rows, np.int64), np.array(self._starts, np.int64)
        return Windows(Encoded(tokens, lengths, 0, self.limit), rows, starts, self._places)

    def _keep(self, columns: Mapping[str, list[int]]) -> None:
        for name, column in columns.items():
            self._tokens.setdefault(name, []).append(np.array(column, np.int32))

    def _stride(self, row: int, room: int, asked: int) -> int:
        if room < 1:
            fact = (
                f"the question has {asked} tokens, and windows of {self.limit} tokens have no room "
                "for a context beside it"
            )
            how = "Shorten the question, or allow longer windows (max_length)."
            raise RowError.of(row, fact, how)
        if self.stride is None:
            return min(STRIDE, room // 2)
        if self.stride >= room:
            raise DataError(
                f"Row {row + 1}: a window of {self.limit} tokens holds {room} of the context "
                f"beside this question, and they were to overlap in {self.stride}. Pass a smaller "
                "stride, or leave it out."
            )
        return self.stride
