"""How many tokens of rows are run: of questions with contexts, those of their windows."""

from __future__ import annotations

from qdeploy.data.lengths import RowLengths, row_limit
from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.windows import window_limit
from qdeploy.head import SPANS, Head


def tokens_kept(head: Head, longest: int, wanted: int | None, taker: str = "the model") -> int:
    """Tokens kept of a row, or of each window of a question and its context.

    Args, raises: of `qdeploy.data.lengths.row_limit`.
    """
    return (window_limit if head.task == SPANS else row_limit)(longest, wanted, taker)


def in_windows(head: Head, rows: Rows) -> bool:
    """Whether rows are questions with contexts, which may be longer than a row of the engine."""
    return head.task == SPANS and rows.second is not None


def lengths_of(encoder: TextEncoder, head: Head, rows: Rows, wanted: int | None) -> RowLengths:
    """Tokens of the rows as they are run, of questions with contexts those of their windows.

    Args, raises: of `tokens_kept`.
    """
    limit = tokens_kept(head, encoder.max_length, wanted)
    if in_windows(head, rows):
        return encoder.windows(rows, limit).encoded.row_lengths
    return encoder.encode(rows, limit).row_lengths
