"""Rows as they are run, and how many tokens of them: of questions with contexts, windows."""

from __future__ import annotations

from qdeploy.data.batches import Encoded
from qdeploy.data.lengths import row_limit
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


def encoded_of(
    encoder: TextEncoder,
    head: Head,
    rows: Rows,
    longest: int,
    wanted: int | None,
    stride: int | None = None,
) -> Encoded:
    """The rows as they are run, of questions with contexts their windows.

    Args:
        longest, wanted: of `qdeploy.data.lengths.row_limit`.
        stride: of windows (`qdeploy.data.windows`).

    Raises: of `row_limit`, and of the encoder.
    """
    if in_windows(head, rows):
        return encoder.windows(rows, window_limit(longest, wanted), stride).encoded
    return encoder.encode(rows, row_limit(longest, wanted))
