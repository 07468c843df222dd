"""The stage of an evaluation that runs the rows: how good the answers are, and how near FP32's."""

from __future__ import annotations

from functools import partial

from qdeploy.data.reading import Reading
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.errors import PlanError
from qdeploy.evaluate import report as parts
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
from qdeploy.evaluate.class_quality import judged_quality, metric_doubt
from qdeploy.evaluate.embeddings import closeness
from qdeploy.evaluate.gates import Gates
from qdeploy.evaluate.head_quality import check_labels, head_quality
from qdeploy.evaluate.labels import label_remedy
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.options import EvalOptions
from qdeploy.evaluate.quality import no_quality
from qdeploy.evaluate.question_answering import check_span_options
from qdeploy.evaluate.row_tokens import tokens_kept
from qdeploy.evaluate.suspicions import of_lengths
from qdeploy.head import EMBEDDINGS
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.schemas.quality import EmbeddingsNear
from qdeploy.types import Progress

_NAME_ROWS = "Name labelled rows with --data"
_STAGES = ("accuracy", "accuracy of the baseline")
_VALUE_STAGES = ("quality", "quality of the baseline")


def fill_answers(
    report: Evaluation,
    subjects: list[LoadedEngine],
    rows: Rows,
    reading: Reading,
    gates: Gates,
    asked: EvalOptions,
    progress: Progress | None,
) -> Judged | Compared | None:
    """Fill `metrics` or `quality`, `labels` and `baseline` as far as labels and heads allow.

    Returns:
        What the engine itself answers; None where there is nothing to learn from it.

    Raises:
        PlanError: a gate, or a simulation, that needs what cannot be measured.
        DataError: labels that do not fit the head.
    """
    head = subjects[0].head
    check_span_options(head, asked.spans)
    limit = kept_tokens(subjects, reading.max_length)
    batch = report["protocol"]["batch_size"]
    if head.chooses:
        predict = partial(predict_rows, task=find_task(reading.task), max_length=limit,
                          batch_size=batch, progress=progress)  # fmt: skip
        found: Judged | Compared | None = _fill_classes(
            report, subjects, rows, reading, gates, predict, asked
        )
    else:
        run = partial(outputs_of, max_length=limit, batch_size=batch, progress=progress,
                      stride=asked.spans.stride)  # fmt: skip
        found = _fill_values(report, subjects, rows, reading, gates, run, asked)
    if found is not None:
        parts.add_lengths(report["data"], found.lengths)
        report["warnings"] += of_lengths(
            found.lengths, subjects[0], longest(subjects), reading.max_length
        )
    return found


def longest(subjects: list[LoadedEngine]) -> int:
    """Tokens of a row that every engine takes."""
    return min(subject.longest for subject in subjects)


def kept_tokens(subjects: list[LoadedEngine], max_length: int | None) -> int:
    """Tokens kept of a row, or of each window of a question and its context.

    Raises:
        PlanError: more were asked for than the engines take.
    """
    first = subjects[0]
    return tokens_kept(first.head, longest(subjects), max_length, first.taker)


def _fill_classes(
    report: Evaluation,
    subjects: list[LoadedEngine],
    rows: Rows,
    reading: Reading,
    gates: Gates,
    run: partial[Judged],
    asked: EvalOptions,
) -> Judged | None:
    """Of heads that choose one class for each row."""
    reason = no_accuracy(subjects[0], rows, stands_in=reading.stands_in)
    if reason is not None:
        remedy = _NAME_ROWS if reading.stands_in else label_remedy(rows)
        _say_none(report, gates, reason)
        if len(subjects) == 1:
            if report["simulated"]:
                raise PlanError(
                    f"A simulation measures accuracy alone, and {reason}. {remedy}, or pass "
                    "--baseline fp32."
                )
            report["warnings"].append(
                f"Accuracy was not measured: {reason}. {remedy}, or pass --baseline fp32: "
                "agreement with it needs no labels."
            )
            return None
    judged = [run(one, rows, stage=stage) for one, stage in zip(subjects, _STAGES, strict=False)]
    report["labels"] = parts.about_labels(judged[0])
    if reason is None:
        report["metrics"] = metrics_of(judged[0])
        task, base = find_task(reading.task), judged[1] if len(judged) > 1 else None
        report["quality"] = judged_quality(judged[0], base, task, asked.seed)
        if (doubt := metric_doubt(task, judged[0].order.names)) is not None:
            report["warnings"].append(doubt)
    if report["baseline"] is not None:
        parts.add_comparison(report["baseline"], compare(judged[0], judged[1]))
    if reason is not None:
        report["warnings"].append(_compared("Accuracy", reason))
    return judged[0]


def _fill_values(
    report: Evaluation,
    subjects: list[LoadedEngine],
    rows: Rows,
    reading: Reading,
    gates: Gates,
    run: partial[Compared],
    asked: EvalOptions,
) -> Compared:
    """Of heads whose answers are values, vectors, or answers for tokens."""
    head, baseline = subjects[0].head, report["baseline"]
    reason = no_quality(head, rows, stands_in=reading.stands_in)
    if reason is not None:
        report["no_accuracy"] = reason
        if baseline is None or head.task != EMBEDDINGS:
            gates.refuse_drop(reason)
        if baseline is None:
            raise PlanError(
                f"{subjects[0].directory} is a {head.description}: its quality is not measured, "
                f"since {reason}. Pass --baseline fp32 to see how far its outputs are from FP32's, "
                "or measure its latency alone (--no-accuracy)."
            )
        report["warnings"].append(_compared("Quality", reason))
    if reason is None:
        check_labels(head, rows, reading.places)
    both = zip(subjects, _VALUE_STAGES, strict=False)
    found = [run(one, rows, stage=stage) for one, stage in both]
    if baseline is not None:
        parts.add_noise(baseline, compare_outputs(found[0], found[1]))
        if head.task == EMBEDDINGS:
            baseline["embeddings"] = near = _near(found[1], found[0])
            if reason is not None and near["recall_at_10"] is None:
                gates.refuse_drop(f"{rows.source} has too few texts to look for the ten nearest")
    if reason is None:
        report["quality"] = head_quality(
            subjects,
            rows,
            found,
            places=reading.places,
            threshold=asked.threshold,
            spans=asked.spans,
            seed=asked.seed,
        )
    return found[0]


def _near(base: Compared, own: Compared) -> EmbeddingsNear:
    """How near embeddings are to the baseline's."""
    reference, found = (one.values["sentence_embedding"] for one in (base, own))
    near = closeness(reference, found)
    return {
        "cosine_mean": near.cosine_mean,
        "cosine_p5": near.cosine_p5,
        "recall_at_10": near.recall,
        "texts": len(found),
    }


def _say_none(report: Evaluation, gates: Gates, reason: str) -> None:
    report["no_accuracy"] = reason
    gates.refuse_drop(reason)


def _compared(what: str, reason: str) -> str:
    return (
        f"{what} was not measured: {reason}. What follows compares the outputs with the "
        "baseline's, which needs no labels."
    )
