"""What two files, or three, answer to the same rows, and how far the others are from FP32."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.data.reading import Reading
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.evaluate.accuracy import (
    Compared,
    Judged,
    compare,
    compare_outputs,
    metrics_of,
    no_accuracy,
    outputs_of,
    predict_rows,
)
from qdeploy.evaluate.bootstrap import figures_of
from qdeploy.evaluate.head_quality import check_labels, head_quality
from qdeploy.evaluate.labels import same_classes
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.metrics import accuracy, wilson_interval
from qdeploy.evaluate.quality import no_quality
from qdeploy.head import Head
from qdeploy.schemas.comparison import Answered
from qdeploy.schemas.evaluation import Metrics
from qdeploy.schemas.quality import ACCURACY, Quality
from qdeploy.types import Array, Progress


@dataclass(frozen=True)
class Asked:
    """The rows, and how they are run."""

    rows: Rows
    reading: Reading
    max_length: int | None
    batch_size: int
    seed: int
    progress: Progress | None = None


@dataclass(frozen=True)
class Said:
    """What is known of one file's answers; `answers` is None of FP32."""

    raw: Judged | Compared
    metrics: Metrics | None
    quality: Quality | None
    answers: Answered | None


@dataclass(frozen=True)
class _Right:
    """Classes beside the labels (`qdeploy.evaluate.bootstrap.Scored`), int64 [N] each."""

    gold: Array
    answers: Array

    def count(self, name: str) -> int:
        return len(self.gold)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        if drawn is None:
            return accuracy(self.answers, self.gold)
        return accuracy(self.answers[drawn], self.gold[drawn])


def why_unmeasured(subject: LoadedEngine, rows: Rows) -> str | None:
    """Why answers are not held against labels, as a clause; None where they are."""
    if subject.head.chooses:
        return no_accuracy(subject, rows)
    return no_quality(subject.head, rows, stands_in=False)


def answer(subject: LoadedEngine, base: tuple[LoadedEngine, Said] | None, asked: Asked) -> Said:
    """Run every row through a file.

    Args:
        subject: the file.
        base: FP32, and what it said; None of FP32 itself.
        asked: the rows.

    Raises:
        DataError: labels that do not fit the model.
        ModelError: outputs of other shapes.
        VerificationError: values that are not finite.
    """
    stage = f"rows of {subject.directory.name}"
    labelled = why_unmeasured(subject, asked.rows) is None
    before = None if base is None else base[1].raw
    if subject.head.chooses:
        judged = predict_rows(
            subject,
            asked.rows,
            find_task(asked.reading.task),
            max_length=asked.max_length,
            batch_size=asked.batch_size,
            progress=asked.progress,
            stage=stage,
        )
        assert before is None or isinstance(before, Judged)
        return Said(
            judged,
            metrics_of(judged) if labelled else None,
            _accuracy(judged, before, asked.seed) if labelled else None,
            None if before is None else _classes(judged, before),
        )
    if labelled:
        check_labels(subject.head, asked.rows, asked.reading.places)
    found = outputs_of(
        subject,
        asked.rows,
        max_length=asked.max_length,
        batch_size=asked.batch_size,
        progress=asked.progress,
        stage=stage,
    )
    assert before is None or isinstance(before, Compared)
    quality = None
    if labelled:
        both = [subject] if base is None else [subject, base[0]]
        outputs = [found] if before is None else [found, before]
        places = asked.reading.places
        quality = head_quality(both, asked.rows, outputs, places=places, seed=asked.seed)
    if before is None:
        return Said(found, None, quality, None)
    noise = compare_outputs(found, before)
    far: Answered = {
        "sqnr_db": noise["sqnr_db"],
        "equal_logits": noise["equal_logits"],
        "max_abs_diff": noise["max_abs_diff"],
    }
    return Said(found, None, quality, far)


def _accuracy(judged: Judged, before: Judged | None, seed: int) -> Quality:
    """Accuracy with the interval of its drop."""
    assert judged.gold is not None
    base = None
    if before is not None:
        logits = before.logits[:, same_classes(judged.order, before.order)]
        base = _Right(judged.gold, logits.argmax(axis=1))
    own = _Right(judged.gold, judged.predicted)
    return {
        "metric": ACCURACY,
        "n": len(judged.gold),
        "queries": None,
        "figures": figures_of([ACCURACY], own, base, seed),
        "kendall": None,
    }


def _classes(judged: Judged, before: Judged) -> Answered:
    found = compare(judged, before)
    rows = len(judged.logits)
    same = rows - found["flipped"]
    return {
        **found,
        "agreement_ci95": list(wilson_interval(same, rows)),
        "constant_predictor": judged.constant,
    }


def description(head: Head) -> str:
    """What the files are, for a reader: "classifier of 2 classes"."""
    return f"{head.description} of {len(head.labels)} classes" if head.chooses else head.description
