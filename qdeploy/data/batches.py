"""Tokens of many rows, and the padded batches that an engine takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.data.lengths import RowLengths
from qdeploy.errors import DataError, PlanError
from qdeploy.types import Array

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Encoded:
    """Tokens of many rows, without padding.

    Attributes:
        tokens: per input name, one int32 array [S of the row] per row; rows of the same lengths
            share those that are alike.
        lengths: int64 [N], tokens of each row.
        truncated: how many rows were cut.
        max_length: the limit that cut them, tokens.
    """

    tokens: dict[str, list[Array]]
    lengths: Array
    truncated: int
    max_length: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def row_lengths(self) -> RowLengths:
        """What was kept and what was cut, without the tokens."""
        return RowLengths(tuple(self.lengths.tolist()), self.truncated, self.max_length)


@dataclass(frozen=True)
class Batch:
    """Padded inputs of an engine.

    Attributes:
        feeds: per input name, int64 [B, S].
        index: int64 [B], the row that each batch row came from.
    """

    feeds: dict[str, Array]
    index: Array


@dataclass(frozen=True)
class Padding:
    """What fills rows up to one length.

    Attributes:
        values: by input name, the number that stands where a row has no token.
        side: "left" or "right", where it stands.
    """

    values: Mapping[str, int]
    side: str

    def batches(
        self,
        encoded: Encoded,
        batch_size: int,
        sort: bool = True,
        pad_to: int | None = None,
        max_tokens: int | None = None,
        max_pairs: int | None = None,
    ) -> Iterator[Batch]:
        """Padded batches; the last one may be smaller.

        Args:
            encoded: rows.
            batch_size: rows of a batch.
            sort: longest rows first, so that little is padding and the largest batch comes first.
            pad_to: tokens S of every batch; the longest row of each batch by default.
            max_tokens: B · S of a batch at most (a single longer row passes), so that memory does
                not depend on how long the rows are; needs `sort`.
            max_pairs: B · S² of a batch at most, likewise: what attention holds per head.

        Raises:
            PlanError: `batch_size` is below 1.
            DataError: a row is longer than `pad_to`.
        """
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise PlanError(f"batch size is {batch_size}, and a whole number from 1 is needed.")
        order = np.arange(len(encoded))
        if sort:
            order = np.argsort(-encoded.lengths, kind="stable")
        start = 0
        while start < len(encoded):
            rows = batch_size
            longest = pad_to or int(encoded.lengths[order[start]])
            for bound, each in ((max_tokens, longest), (max_pairs, longest**2)):
                if bound is not None:
                    rows = max(1, min(rows, bound // max(each, 1)))
            index = order[start : start + rows].astype(np.int64)
            start += rows
            width = int(encoded.lengths[index].max())
            if pad_to is not None and width > pad_to:
                raise DataError(
                    f"A row has {width} tokens, and batches of {pad_to} were asked for. Encode "
                    f"with max_length={pad_to}."
                )
            yield Batch(self._padded(encoded, index, pad_to or width), index)

    def _padded(self, encoded: Encoded, index: Array, width: int) -> dict[str, Array]:
        feeds = {}
        for name, value in self.values.items():
            padded = np.full((len(index), width), value, np.int64)
            for at, row in enumerate(index):
                tokens = encoded.tokens[name][row]
                start = width - len(tokens) if self.side == "left" else 0
                padded[at, start : start + len(tokens)] = tokens
            feeds[name] = padded
        return feeds
