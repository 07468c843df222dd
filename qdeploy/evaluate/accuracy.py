"""Predictions of an engine over rows: their accuracy, and what they are worth against a baseline.

Agreement and noise need no labels, and noise no classes either: they are given for every engine
that has a baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qdeploy.data.lengths import RowLengths, row_limit
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Task
from qdeploy.errors import ModelError, PlanError
from qdeploy.evaluate import metrics
from qdeploy.evaluate.class_swaps import SwappedOrder, swapped_order
from qdeploy.evaluate.labels import ClassOrder, Gold, class_order, gold_of, same_classes
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.predict import predict_logits, predict_values
from qdeploy.evaluate.row_tokens import encoded_of
from qdeploy.head import Head
from qdeploy.schemas.evaluation import Comparison, Metrics, OutputNoise
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array, Progress


@dataclass(frozen=True)
class Judged:
    """Predictions of one engine.

    Attributes:
        order: its class names by index.
        logits: float32 [N, classes], columns in that order.
        gold: int64 [N], class indices in that order; None where the rows have no labels.
        lengths: tokens of the rows, and how many were cut.
        form: how the labels were spelled: "names", or "integers" in the model's order.
    """

    order: ClassOrder
    logits: Array
    gold: Array | None
    lengths: RowLengths
    form: str | None = None

    @property
    def predicted(self) -> Array:
        """int64 [N]; of equal logits the first class."""
        best: Array = np.argmax(self.logits, axis=1)
        return best

    @property
    def only_class(self) -> str | None:
        """The class of all rows where they have one alone: its rows say nothing of the others."""
        if self.gold is None or np.any(self.gold != self.gold[0]):
            return None
        return self.order.names[int(self.gold[0])]

    @property
    def constant(self) -> bool:
        """Whether every row gets one class, though the rows are not known to be of one."""
        return self.only_class is None and metrics.constant_predictor(self.predicted)

    @cached_property
    def swapped(self) -> SwappedOrder | None:
        """The class order that fits far better than the model's own, if there is one."""
        if self.gold is None:
            return None
        return swapped_order(self.logits, self.gold, self.order.names)


@dataclass(frozen=True)
class Compared:
    """Outputs of an engine whose answer is not one class of a row.

    Attributes:
        values: by name, float32 [rows, ...], or [tokens, ...] of all rows.
        lengths: tokens of the rows, and how many were cut.
        head: what they mean.
    """

    values: dict[str, Array]
    lengths: RowLengths
    head: Head


def no_accuracy(subject: LoadedEngine, rows: Rows, *, stands_in: bool = False) -> str | None:
    """Why an engine has no accuracy on these rows, as a clause; None where it has one.

    Args:
        subject: the engine.
        rows: with labels or without.
        stands_in: the rows are the embedded ones, in place of the engine's own.
    """
    if not subject.head.chooses:
        return (
            f"{subject.directory} is a {subject.head.description}: accuracy is measured only where "
            "an engine chooses one class for each row"
        )
    if stands_in:
        return f"{rows.source} stands in for rows of your own, and its labels are not the model's"
    if rows.labels is None:
        return rows.without_labels()
    return None


def predict_rows(
    subject: LoadedEngine,
    rows: Rows,
    task: Task,
    *,
    max_length: int | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
    stage: str = "accuracy",
) -> Judged:
    """Predict every row.

    Args:
        subject: the engine; it must choose one class of a sequence.
        rows: with labels or without.
        task: for the order of generic class names.
        max_length: tokens kept of a row; None is what the engine takes, at most 512.
        batch_size: rows of a run at most; fewer where they are long.
        progress, stage: called as progress(stage, rows done, rows).

    Raises:
        PlanError: the engine does not choose one class of a sequence, or takes fewer tokens.
        DataError: labels unknown to the model; no room for text.
        ModelError: a model without classes.
        VerificationError: logits that are not finite.
    """
    if not subject.head.chooses:
        raise PlanError(
            f"{subject.directory} is a {subject.head.description}: accuracy is measured only where "
            "an engine chooses one class for each row. Pass --baseline fp32 to see how far its "
            "outputs are from FP32's, or measure its latency alone (--no-accuracy); "
            "qdeploy.load(...).logits() gives its outputs."
        )
    order = class_order(subject.manifest["labels"], task)
    gold: Gold | None = None if rows.labels is None else gold_of(rows, order)
    encoded = subject.encoder.encode(rows, row_limit(subject.longest, max_length))
    logits = predict_logits(
        subject.engine,
        subject.encoder,
        encoded,
        batch_size=batch_size,
        progress=progress,
        stage=stage,
    )
    if gold is None:
        return Judged(order, logits, None, encoded.row_lengths)
    return Judged(order, logits, gold.indices, encoded.row_lengths, gold.form)


def outputs_of(
    subject: LoadedEngine,
    rows: Rows,
    *,
    max_length: int | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
    stage: str = "accuracy",
    stride: int | None = None,
) -> Compared:
    """What every row is answered, of any head; arguments and errors as of `predict_rows`.

    Of questions and their contexts, what is answered in every window, which overlap in `stride`
    tokens (`qdeploy.data.windows`).
    """
    encoded = encoded_of(subject.encoder, subject.head, rows, subject.longest, max_length, stride)
    values = predict_values(
        subject.engine,
        subject.encoder,
        encoded,
        head=subject.head,
        batch_size=batch_size,
        progress=progress,
        stage=stage,
    )
    return Compared(values, encoded.row_lengths, subject.head)


def by_row(values: Mapping[str, Array], lengths: Array) -> list[dict[str, Array]]:
    """Answers for tokens, [tokens of all rows, …], row by row; int64 [N] tokens of each."""
    ends = np.cumsum(lengths)[:-1]
    parts = {name: np.split(array, ends) for name, array in values.items()}
    return [{name: part[at] for name, part in parts.items()} for at in range(len(lengths))]


def metrics_of(judged: Judged) -> Metrics:
    """The report's `metrics`: accuracy, n, 95 % Wilson interval, constant_predictor.

    The predictions must have labels.
    """
    assert judged.gold is not None
    n = len(judged.gold)
    share = metrics.accuracy(judged.predicted, judged.gold)
    return {
        "accuracy": share,
        "n": n,
        "ci95": list(metrics.wilson_interval(round(share * n), n)),
        "constant_predictor": judged.constant,
    }


def compare(judged: Judged, base: Judged) -> Comparison:
    """The report's `baseline`: what is gained and lost against it, on the same rows.

    Without labels there is no accuracy, drop and McNemar p; the rest needs none. For `sqnr_db` and
    `max_abs_diff` see `compare_outputs`.

    Raises:
        ModelError: the two have different classes.
    """
    base_logits = base.logits[:, same_classes(judged.order, base.order)]
    predicted, base_predicted = judged.predicted, np.argmax(base_logits, axis=1)
    noise = _noise([(base_logits, judged.logits)], exclusive=True)
    found: Comparison = {
        "flipped": metrics.flipped_rows(base_predicted, predicted),
        "agreement": metrics.agreement(base_predicted, predicted),
        "sqnr_db": noise["sqnr_db"],
        "equal_logits": noise["equal_logits"],
        "max_abs_diff": noise["max_abs_diff"],
        "constant_predictor": judged.only_class is None
        and metrics.constant_predictor(base_predicted),
    }
    if judged.gold is None:
        return found
    n = len(judged.gold)
    theirs = metrics.accuracy(base_predicted, judged.gold)
    found["accuracy"] = theirs
    found["ci95"] = list(metrics.wilson_interval(round(theirs * n), n))
    found["drop"] = theirs - metrics.accuracy(predicted, judged.gold)
    found["mcnemar_p"] = metrics.mcnemar_of(base_predicted, predicted, judged.gold)
    return found


def compare_outputs(own: Compared, base: Compared) -> OutputNoise:
    """How far two engines' outputs are from each other on the same rows.

    Returns:
        `sqnr_db` (`qdeploy.sqnr`; None where nothing differs, or the baseline's rows are all
        alike), `equal_logits`, `max_abs_diff`.

    Raises:
        ModelError: the two give outputs of other shapes.
    """
    shapes, theirs = (
        [f"{name} {'×'.join(map(str, values.shape))}" for name, values in one.values.items()]
        for one in (own, base)
    )
    if shapes != theirs:
        raise ModelError(
            f"The baseline gives {', '.join(theirs)} for these rows, and the engine "
            f"{', '.join(shapes)}. Take a baseline built from the same model."
        )
    return _noise(
        [(base.values[name], own.values[name]) for name in own.values], exclusive=own.head.exclusive
    )


def _noise(outputs: Sequence[tuple[Array, Array]], *, exclusive: bool) -> OutputNoise:
    """Of (baseline's, engine's) of each output."""
    sqnr = logit_sqnr_db(outputs, exclusive=exclusive)
    return {
        "sqnr_db": sqnr if math.isfinite(sqnr) else None,
        "equal_logits": sqnr == math.inf,
        "max_abs_diff": max(metrics.largest_difference(base, own) for base, own in outputs),
    }
