"""How good outputs are, by the metrics of their head: one place for `eval` and for sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns
from qdeploy.evaluate.accuracy import Compared
from qdeploy.evaluate.answer_quality import answer_quality, gold_texts, scores_of
from qdeploy.evaluate.answers import check_classes, threshold_of
from qdeploy.evaluate.label_sets import label_sets
from qdeploy.evaluate.labels import ClassOrder, same_classes
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.multilabel import LabelSets, multilabel_quality
from qdeploy.evaluate.options import SpanOptions
from qdeploy.evaluate.quality import numbers_of, quality_of, values_of
from qdeploy.evaluate.scoring import tags_of, texts_of
from qdeploy.evaluate.tagging import counts_of, gold_tags, tag_quality
from qdeploy.head import MULTI_LABEL, SPANS, TOKENS, Head
from qdeploy.schemas.quality import Quality
from qdeploy.types import Array


def check_labels(head: Head, rows: Rows, places: Columns) -> None:
    """Refuse labels that do not fit the head, before anything runs; arguments of `head_quality`.

    Raises:
        DataError: with the row.
    """
    if head.problem_type == MULTI_LABEL:
        label_sets(rows, head.labels, places)
    elif head.task == SPANS:
        gold_texts(rows)
    elif head.task == TOKENS:
        gold_tags(rows, head.labels)
    else:
        numbers_of(rows)


def head_quality(
    subjects: Sequence[LoadedEngine],
    rows: Rows,
    found: Sequence[Compared],
    *,
    places: Columns,
    threshold: float | None = None,
    spans: SpanOptions | None = None,
    seed: int = 0,
) -> Quality:
    """The metrics of an engine, with what is lost against a baseline.

    Args:
        subjects: the engine, and its baseline where there is one.
        rows: with labels that fit the head (`qdeploy.evaluate.quality.no_quality`).
        found: what each answers of them.
        places: the columns that the rows came from.
        threshold: of a multi-label classifier; None is 0.5.
        spans: how answers to questions are found; None is as by default.
        seed: of the bootstrap.

    Raises:
        DataError: labels that do not fit the head.
        PlanError: a threshold of another head.
    """
    head = subjects[0].head
    if head.problem_type == MULTI_LABEL:
        gold = label_sets(rows, head.labels, places)
        return _label_sets(subjects, gold, found, threshold, seed)
    if head.task == SPANS:
        return _answers(subjects, rows, found, spans or SpanOptions(), seed)
    measure = _tags if head.task == TOKENS else _numbers
    return measure(subjects, rows, found, seed)


def _label_sets(
    subjects: Sequence[LoadedEngine],
    gold: Array,
    found: Sequence[Compared],
    threshold: float | None,
    seed: int,
) -> Quality:
    """Of multi-label classifiers; both engines' logits in the order of the engine's classes."""
    names, both = subjects[0].head.labels, []
    for subject, one in zip(subjects, found, strict=True):
        head, logits = subject.head, one.values["logits"]
        check_classes(logits, head.labels)
        if head.labels != names:
            own, other = ClassOrder(names, "model"), ClassOrder(head.labels, "model")
            logits = logits[:, same_classes(own, other)]
        both.append(LabelSets(gold, logits, threshold_of(head, threshold)))
    return multilabel_quality(both[0], both[1] if len(both) > 1 else None, seed)


def _answers(
    subjects: Sequence[LoadedEngine],
    rows: Rows,
    found: Sequence[Compared],
    rules: SpanOptions,
    seed: int,
) -> Quality:
    """Of answers to questions."""
    gold, both = gold_texts(rows), []
    for subject, one in zip(subjects, found, strict=True):
        said = texts_of(subject, rows, one.lengths.max_length, rules, gold)
        both.append(scores_of(gold, said(one.values)))
    return answer_quality(both[0], both[1] if len(both) > 1 else None, seed)


def _numbers(
    subjects: Sequence[LoadedEngine], rows: Rows, found: Sequence[Compared], seed: int
) -> Quality:
    """Of heads that give a number for each row."""
    head = subjects[0].head
    both = [values_of(head, rows, one.values[head.answers[0]]) for one in found]
    return quality_of(both[0], head, both[1] if len(both) > 1 else None, seed)


def _tags(
    subjects: Sequence[LoadedEngine], rows: Rows, found: Sequence[Compared], seed: int
) -> Quality:
    """Of token classifiers."""
    gold, both = gold_tags(rows, subjects[0].head.labels), []
    for subject, one in zip(subjects, found, strict=True):
        said = tags_of(subject, rows, one.lengths.max_length)
        both.append(counts_of(gold, said(one.values)))
    return tag_quality(both[0], both[1] if len(both) > 1 else None, seed)
