"""Accuracy of an engine over labelled rows, alone or against a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Task
from qdeploy.evaluate import metrics
from qdeploy.evaluate.labels import (
    ClassOrder,
    SwappedOrder,
    class_order,
    gold_indices,
    same_classes,
    swapped_order,
)
from qdeploy.evaluate.predict import Progress, predict_logits
from qdeploy.evaluate.subject import Subject

Array = npt.NDArray[Any]

_MAX_LENGTH = 128  # tokens, as arXiv 2603.04308 evaluates QNLI


@dataclass(frozen=True)
class Judged:
    """Predictions of one engine on labelled rows.

    Attributes:
        order: its class names by index.
        logits: float32 [N, classes], columns in that order.
        gold: int64 [N], class indices in that order.
        max_length: tokens kept of a row.
        truncated: rows that were cut to it.
    """

    order: ClassOrder
    logits: Array
    gold: Array
    max_length: int
    truncated: int

    @property
    def predicted(self) -> Array:
        """int64 [N]; of equal logits the first class."""
        best: Array = np.argmax(self.logits, axis=1)
        return best

    @property
    def swapped(self) -> SwappedOrder | None:
        """The class order that fits far better than the model's own, if there is one."""
        return swapped_order(self.predicted, self.gold, self.order.names)


def judge(
    subject: Subject,
    rows: Rows,
    task: Task,
    *,
    seq_len: int = _MAX_LENGTH,
    batch_size: int = 8,
    progress: Progress | None = None,
    stage: str = "accuracy",
) -> Judged:
    """Predict every row.

    Args:
        subject: the engine; it must choose one class of a sequence.
        rows: labelled rows.
        task: for the order of generic class names.
        seq_len: tokens kept of a row where that is more than 128; a shorter one is a matter of
            latency alone. A model that takes fewer than 128 cuts at its own limit.
        batch_size: rows of a run.
        progress, stage: called as progress(stage, rows done, rows).

    Raises:
        PlanError: the engine does not choose one class of a sequence.
        DataError: labels missing, unknown or of one class; rows longer than the model takes.
        ModelError: a model without classes.
        VerificationError: logits that are not finite.
    """
    subject.require_classifier()
    order = class_order(subject.manifest["labels"], task)
    gold = gold_indices(rows, order)
    usual = min(_MAX_LENGTH, subject.encoder.max_length)
    encoded = subject.encoder.encode(rows, seq_len if seq_len > _MAX_LENGTH else usual)
    logits = predict_logits(
        subject.engine,
        subject.encoder,
        encoded,
        batch_size=batch_size,
        progress=progress,
        stage=stage,
    )
    return Judged(order, logits, gold, encoded.max_length, encoded.truncated)


def metrics_of(judged: Judged) -> dict[str, Any]:
    """The report's `metrics`: accuracy, n, 95 % Wilson interval, constant_predictor."""
    n = len(judged.gold)
    share = metrics.accuracy(judged.predicted, judged.gold)
    return {
        "accuracy": share,
        "n": n,
        "ci95": list(metrics.wilson_interval(round(share * n), n)),
        "constant_predictor": metrics.constant_predictor(judged.predicted),
    }


def compare(judged: Judged, base: Judged) -> dict[str, Any]:
    """The report's `baseline`: what is gained and lost against it, on the same rows.

    `sqnr_db` is None where the logits are equal (noise 0) or the baseline's are all zero.

    Raises:
        ModelError: the two have different classes.
    """
    columns = same_classes(judged.order, base.order)
    base_logits = base.logits[:, columns]
    base_predicted = np.argmax(base_logits, axis=1)
    own = metrics.accuracy(judged.predicted, judged.gold)
    theirs = metrics.accuracy(base_predicted, judged.gold)
    sqnr = metrics.sqnr_db(base_logits, judged.logits)
    n = len(judged.gold)
    return {
        "accuracy": theirs,
        "ci95": list(metrics.wilson_interval(round(theirs * n), n)),
        "drop": theirs - own,
        "mcnemar_p": metrics.mcnemar_of(base_predicted, judged.predicted, judged.gold),
        "flipped": metrics.flipped_rows(base_predicted, judged.predicted),
        "agreement": metrics.agreement(base_predicted, judged.predicted),
        "sqnr_db": sqnr if math.isfinite(sqnr) else None,
        "equal_logits": sqnr == math.inf,
        "constant_predictor": metrics.constant_predictor(base_predicted),
    }
