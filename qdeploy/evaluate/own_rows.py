"""Rows as a metric of the caller's own sees them: outputs, what is read from them, and labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns
from qdeploy.evaluate.accuracy import Compared, by_row
from qdeploy.evaluate.answer_quality import gold_texts
from qdeploy.evaluate.bootstrap import Scored
from qdeploy.evaluate.label_sets import label_sets
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.options import SpanOptions
from qdeploy.evaluate.own_metric import OwnScored
from qdeploy.evaluate.row_tokens import in_windows
from qdeploy.evaluate.scoring import Outputs, Scoring, tags_of, texts_of
from qdeploy.evaluate.tagging import gold_tags
from qdeploy.head import MULTI_LABEL, TOKENS, Head
from qdeploy.types import OwnMetric


def own_scoring(
    metric: OwnMetric, base: LoadedEngine, rows: Rows, answered: Compared, places: Columns
) -> Scoring:
    """How the outputs of a head become a metric of the caller's own.

    Args:
        metric: the callable (`qdeploy.types.OwnMetric`).
        base, rows, answered, places: of `qdeploy.evaluate.scoring.scoring_of`.

    Raises:
        DataError: labels that do not fit the head.
    """
    head, labels = base.head, _labels(base.head, rows, places)
    limit = answered.lengths.max_length
    spans = in_windows(head, rows)
    say = tags_of(base, rows, limit) if head.task == TOKENS else None
    if spans:
        say = texts_of(base, rows, limit, SpanOptions(), labels)  # type: ignore[assignment]
    name = "answer" if spans else "tags"

    def scored(outputs: Outputs) -> Scored:
        each = _each(base, rows, answered, outputs)
        if say is not None:
            each = [row | {name: said} for row, said in zip(each, say(outputs), strict=True)]
        return OwnScored(metric, each, labels)

    return scored


def _labels(head: Head, rows: Rows, places: Columns) -> Sequence[Any] | None:
    """Of each row a class or a number as the rows spell it; tags of its words; its classes; gold
    answers."""
    if rows.labels is None:
        return None
    if head.problem_type == MULTI_LABEL:
        sets = label_sets(rows, head.labels, places)
        return [[head.labels[at] for at in np.flatnonzero(row)] for row in sets]
    if head.task == TOKENS:
        return gold_tags(rows, head.labels)
    return gold_texts(rows) if in_windows(head, rows) else rows.labels


def _each(
    base: LoadedEngine, rows: Rows, answered: Compared, outputs: Outputs
) -> list[dict[str, Any]]:
    """Outputs of each row by themselves.

    Of a pair of texts that are embedded an output is [2, D]; of a question with its context it is a
    list, of each window [S].
    """
    head, count = answered.head, len(rows)
    if head.of_rows:
        parts = {name: np.split(values, count) for name, values in outputs.items()}
        return [
            {name: part[at][0] if len(part[at]) == 1 else part[at] for name, part in parts.items()}
            for at in range(count)
        ]
    apart = by_row(outputs, np.array(answered.lengths.kept))
    if not in_windows(head, rows):
        return [dict(row) for row in apart]
    windows = base.encoder.windows(rows, answered.lengths.max_length)
    ends = np.searchsorted(windows.rows, np.arange(count + 1))
    both = itertools.pairwise(ends)
    return [{n: [one[n] for one in apart[first:last]] for n in outputs} for first, last in both]
