"""How good outputs are, by the metrics of their head: one place for `eval` and for sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.data.rows import Rows
from qdeploy.evaluate.accuracy import Compared
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.quality import quality_of, values_of
from qdeploy.evaluate.tagging import counts_of, gold_tags, predicted_tags, tag_quality
from qdeploy.head import TOKENS
from qdeploy.schemas.quality import Quality


def head_quality(
    subjects: Sequence[LoadedEngine], rows: Rows, found: Sequence[Compared], seed: int
) -> Quality:
    """The metrics of an engine, with what is lost against a baseline.

    Args:
        subjects: the engine, and its baseline where there is one.
        rows: with labels that fit the head (`qdeploy.evaluate.quality.no_quality`).
        found: what each answers of them.
        seed: of the bootstrap.

    Raises:
        DataError: labels that do not fit the head.
    """
    measure = _tags if subjects[0].head.task == TOKENS else _numbers
    return measure(subjects, rows, found, seed)


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
    gold = gold_tags(rows, subjects[0].head.labels)
    both = []
    for subject, one in zip(subjects, found, strict=True):
        spelled = subject.encoder.spelled(rows, one.lengths.max_length)
        said = predicted_tags(rows, spelled, one.values["logits"], subject.head.labels)
        both.append(counts_of(gold, said))
    return tag_quality(both[0], both[1] if len(both) > 1 else None, seed)
