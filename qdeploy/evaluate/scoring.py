"""From the outputs of a head to what its metrics are computed from, on given rows.

Where rows have no labels, what FP32 answers stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns
from qdeploy.errors import DataError
from qdeploy.evaluate.accuracy import Compared, by_row
from qdeploy.evaluate.answer_quality import gold_texts, scores_of
from qdeploy.evaluate.answers import THRESHOLD, sigmoid
from qdeploy.evaluate.bootstrap import Scored
from qdeploy.evaluate.label_sets import label_sets
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.multilabel import LabelSets
from qdeploy.evaluate.options import SpanOptions
from qdeploy.evaluate.quality import MRR, SPEARMAN, Values, values_of
from qdeploy.evaluate.question_answering import answers_of
from qdeploy.evaluate.row_tokens import in_windows
from qdeploy.evaluate.tagging import counts_of, gold_tags, predicted_tags
from qdeploy.head import MULTI_LABEL, SPANS, TOKENS, Head
from qdeploy.machine.remedies import require
from qdeploy.types import Array

Outputs: TypeAlias = Mapping[str, Array]  # by name, FP32 [rows or tokens, …]
Scoring: TypeAlias = Callable[[Outputs], Scored]


def scoring_of(base: LoadedEngine, rows: Rows, answered: Compared, places: Columns) -> Scoring:
    """How the outputs of a head become metrics.

    Args:
        base: the FP32 engine; its head chooses no class of a row.
        rows: with labels or without.
        answered: what FP32 answers of them.
        places: the columns that the rows came from.

    Raises:
        DataError: labels that do not fit the head.
    """
    if base.head.problem_type == MULTI_LABEL:
        return _of_label_sets(base.head, rows, answered, places)
    if base.head.task == SPANS:
        return _of_spans(base, rows, answered)
    if base.head.task == TOKENS:
        return _of_tags(base, rows, answered)
    require("scipy", "sklearn")
    return _of_values(base.head, rows, answered)


def check_rankings(name: str, rows: Rows, scored: Scored) -> None:
    """Refuse a metric of rankings where rows are none.

    Raises:
        DataError: no query has several texts, one of them relevant; gains of NDCG below 0.
    """
    if not isinstance(scored, Values) or name in scored.rankings:
        return
    if scored.rankings:
        raise DataError(
            f"--metric {name} takes labels from 0 on, and {rows.source} has one of "
            f"{scored.gold.min():g}. Take {MRR} or {SPEARMAN}."
        )
    raise DataError(
        f"--metric {name} is of rankings, and no query (first text) of {rows.source} has several "
        f"texts, one of them with a label above 0. Take {SPEARMAN}, or rows with several texts for "
        "a query."
    )


def _of_label_sets(head: Head, rows: Rows, answered: Compared, places: Columns) -> Scoring:
    own = answered.values["logits"]
    gold = sigmoid(own) > THRESHOLD
    if rows.labels is not None:
        gold = label_sets(rows, head.labels, places)
    return lambda outputs: LabelSets(gold, outputs["logits"], THRESHOLD)


def _of_spans(base: LoadedEngine, rows: Rows, answered: Compared) -> Scoring:
    if not in_windows(base.head, rows):
        raise DataError(
            f"{rows.source} has rows of one text, and questions with their contexts were expected. "
            "Name both columns with --columns question=COLUMN,context=COLUMN and --task squad."
        )
    gold = None if rows.labels is None else gold_texts(rows)
    said = texts_of(base, rows, answered.lengths.max_length, SpanOptions(), gold)
    known = [[text] for text in said(answered.values)] if gold is None else gold
    return lambda outputs: scores_of(known, said(outputs))


def texts_of(
    subject: LoadedEngine,
    rows: Rows,
    max_length: int,
    rules: SpanOptions,
    gold: Sequence[Sequence[str]] | None,
) -> Callable[[Outputs], list[str]]:
    """From the outputs of an engine to the best answer to each question, "" for none.

    Args:
        rows: questions and contexts.
        max_length: tokens of a window.
        rules: how answers are found.
        gold: answers of each question; where one has none, that may be said too.
    """
    windows = subject.encoder.windows(rows, max_length, rules.stride)
    threshold = None if gold is None or all(gold) else rules.no_answer_threshold

    def said(outputs: Outputs) -> list[str]:
        apart = by_row(outputs, windows.encoded.lengths)
        best = answers_of(rows, windows, apart, rules.max_answer_length, threshold)
        return [answers[0].text for answers in best]

    return said


def _of_tags(base: LoadedEngine, rows: Rows, answered: Compared) -> Scoring:
    said = tags_of(base, rows, answered.lengths.max_length)
    gold = said(answered.values) if rows.labels is None else gold_tags(rows, base.head.labels)
    return lambda outputs: counts_of(gold, said(outputs))


def tags_of(
    subject: LoadedEngine, rows: Rows, max_length: int
) -> Callable[[Outputs], list[list[str]]]:
    """From the outputs of a token classifier to the tag of each word of each row."""
    spelled = subject.encoder.spelled(rows, max_length)
    return lambda outputs: predicted_tags(rows, spelled, outputs["logits"], subject.head.labels)


def _of_values(head: Head, rows: Rows, answered: Compared) -> Scoring:
    output = head.answers[0]
    if rows.labels is None:
        rows = replace(rows, labels=tuple(map(str, answered.values[output][:, 0].tolist())))
    return lambda outputs: values_of(head, rows, outputs[output])
