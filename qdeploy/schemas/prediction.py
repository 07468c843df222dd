"""What `predict` says beside its answers."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from qdeploy.schemas.fields import Count, Positive


class AnsweredFile(TypedDict):
    """How many rows were answered, with what, and how fast.

    `answers` counts each label, None of heads without classes; `unanswered` rows could
    not be.
    `out` is None where the answers are on standard output, `fields` names what is said of a row.
    """

    schema: int
    kind: Literal["prediction"]
    engine: str
    data: str
    out: str | None
    rows: Count
    answers: dict[str, Count] | None
    unanswered: Count
    fields: list[str]
    truncated: Count
    max_length: Positive
    batch_size: Positive
    threads: Positive
    seconds: float
    rows_per_s: float | None
