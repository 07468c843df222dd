"""What `--strategy auto` gates a head by: its own metric, on rows that calibrated nothing.

Rows without labels are judged by FP32's own answers, so that every answer that changes counts as
lost. Embeddings are judged by FP32's nearest texts, which needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns, Task
from qdeploy.errors import DataError, PlanError, choose
from qdeploy.evaluate import answer_quality, tagging
from qdeploy.evaluate.accuracy import Compared
from qdeploy.evaluate.bootstrap import drawn_of
from qdeploy.evaluate.class_quality import Classes, metric_of_task, metrics_of_classes
from qdeploy.evaluate.embeddings import NEIGHBOURS, RECALL_AT, neighbours_found, unit
from qdeploy.evaluate.heldout import DropEstimate, estimate_drop, level_of
from qdeploy.evaluate.labels import class_order, gold_of
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.multilabel import FIGURES
from qdeploy.evaluate.own_metric import load_metric, name_of
from qdeploy.evaluate.own_rows import own_scoring
from qdeploy.evaluate.quality import MRR, NDCG, PEARSON, SPEARMAN, metric_of
from qdeploy.evaluate.scoring import Outputs, Scoring, check_rankings, scoring_of
from qdeploy.head import EMBEDDINGS, MULTI_LABEL, SPANS, TOKENS, Head
from qdeploy.schemas.quality import ACCURACY
from qdeploy.types import Array, OwnMetric

_DROPS = {RECALL_AT: 5.0}  # that may be lost where nothing is said; else
_DROP = 0.3
_REDRAWS, _RESAMPLES = 50, 200


@dataclass(frozen=True)
class Judge:
    """How much of a metric outputs lose against FP32's.

    Attributes:
        metric: its name.
        labelled: whether rows have labels that it reads; else FP32's answers stand in.
        loss: (FP32's outputs, an engine's) → what is lost.
    """

    metric: str
    labelled: bool
    loss: Callable[[Outputs, Outputs], DropEstimate]

    @property
    def max_drop(self) -> float:
        """Hundredths that may be lost where nothing is said."""
        return _DROPS.get(self.metric, _DROP)


def judge_of(
    base: LoadedEngine,
    rows: Rows,
    answered: Compared,
    *,
    task: Task,
    places: Columns,
    metric: OwnMetric | str | None = None,
) -> Judge:
    """The judge of a head on these rows.

    Args:
        base: the FP32 engine.
        rows: with labels or without.
        answered: what it answers of them.
        task: of the rows: what classifiers are judged by, and the order of generic class names.
        places: the columns that the rows came from.
        metric: a name, `module:function`, or a callable; None takes the task's or the head's own.

    Raises:
        PlanError: a metric that the head does not have.
        DataError: labels that do not fit the head, or too few rows.
    """
    head, labelled = base.head, rows.labels is not None
    if isinstance(metric, str) and ":" in metric:
        metric = load_metric(metric)
    if callable(metric):
        own = own_scoring(metric, base, rows, answered, places)
        return _by_score(name_of(metric), own, head, labelled=labelled)
    if head.chooses:
        return _of_classes(base, rows, task, metric)
    name = _chosen(head, metric, _metrics_of(head))
    if name == RECALL_AT:
        return Judge(name, False, _neighbours_lost)
    scored = scoring_of(base, rows, answered, places)
    if name in (NDCG, MRR):
        check_rankings(name, rows, scored(answered.values))
    return _by_score(name, scored, head, labelled=labelled)


def _of_classes(base: LoadedEngine, rows: Rows, task: Task, asked: str | None) -> Judge:
    order = class_order(base.manifest["labels"], task)
    own, positive = metric_of_task(task, order.names)
    name = _chosen(base.head, asked or own, (ACCURACY, *metrics_of_classes(positive)))
    gold = None if rows.labels is None else gold_of(rows, order).indices
    if name == ACCURACY:
        return Judge(
            name,
            gold is not None,
            lambda exact, found: estimate_drop(exact["logits"], found["logits"], gold),
        )

    def loss(exact: Outputs, found: Outputs) -> DropEstimate:
        truth = exact["logits"].argmax(axis=1) if gold is None else gold

        def scored(outputs: Outputs) -> Classes:
            return Classes(truth, outputs["logits"].argmax(axis=1), positive)

        return _lost(name, scored, exact, found, exclusive=True)

    return Judge(name, gold is not None, loss)


def _metrics_of(head: Head) -> tuple[str, ...]:
    """The metrics that a head may be gated by; the first is its own."""
    if head.task == EMBEDDINGS:
        return (RECALL_AT, SPEARMAN, PEARSON)
    if head.task == TOKENS:
        return (tagging.F1, tagging.PRECISION, tagging.RECALL, tagging.ACCURACY)
    if head.task == SPANS:
        return (answer_quality.F1, answer_quality.EXACT)
    if head.problem_type == MULTI_LABEL and head.of_rows:
        return FIGURES
    return (SPEARMAN, PEARSON, NDCG, MRR) if metric_of(head) == SPEARMAN else ()


def _chosen(head: Head, asked: str | None, known: Sequence[str]) -> str:
    """The name of the metric.

    Raises:
        PlanError: another one than the head has, or a head without any.
    """
    if not known:
        raise PlanError(
            f"--strategy auto has no metric of its own for a {head.description}. Pass one of yours "
            "with --metric MODULE:FUNCTION, or name a strategy, such as peg."
        )
    if asked is None:
        return known[0]
    spelled = {name.casefold().replace(" ", "-"): name for name in known}
    return spelled[choose("metric", asked.casefold().replace(" ", "-"), spelled, PlanError)]


def _by_score(name: str, scored: Scoring, head: Head, *, labelled: bool) -> Judge:
    def loss(exact: Outputs, found: Outputs) -> DropEstimate:
        return _lost(name, scored, exact, found, exclusive=head.exclusive)

    return Judge(name, labelled, loss)


def _lost(
    name: str,
    scored: Scoring,
    exact: Outputs,
    found: Outputs,
    *,
    exclusive: bool,
    seed: int = 0,
) -> DropEstimate:
    """What a metric loses, measured, and expected with the noise of other rows or tokens."""
    theirs, own = scored(exact), scored(found)
    whole = theirs.figure(name)
    noise = {key: found[key].astype(np.float64) - values for key, values in exact.items()}
    rng = np.random.default_rng(seed)
    lost = [whole - scored(_with_noise(exact, noise, rng)).figure(name) for _ in range(_REDRAWS)]
    draws = drawn_of(theirs.count(name), _RESAMPLES, seed)
    losses = [theirs.figure(name, drawn) - own.figure(name, drawn) for drawn in draws]
    return DropEstimate(
        expected_drop=100 * float(np.mean(lost)),
        measured_drop=100 * (whole - own.figure(name)),
        standard_error=100 * float(np.nanstd(losses)),
        sqnr_db=level_of([(exact[key], found[key]) for key in exact], exclusive=exclusive),
    )


def _with_noise(
    exact: Outputs, noise: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    drawn = {key: rng.integers(0, len(values), len(values)) for key, values in noise.items()}
    return {
        key: (values + noise[key][drawn[key]]).astype(np.float32) for key, values in exact.items()
    }


def _neighbours_lost(exact: Outputs, found: Outputs) -> DropEstimate:
    """Of embeddings: FP32's nearest texts that are not found, and the cosine to FP32.

    Raises:
        DataError: no more texts than neighbours.
    """
    output = "sentence_embedding"
    reference, own = unit(exact[output]), unit(found[output])
    hits = neighbours_found(reference, own)
    if not len(hits):
        raise DataError(
            f"{len(reference)} texts were held out, and {NEIGHBOURS + 1} different ones are needed "
            "to look for neighbours. Give more rows with --data."
        )
    lost = 100 * (1 - hits / NEIGHBOURS)
    return DropEstimate(
        expected_drop=float(lost.mean()),
        measured_drop=float(lost.mean()),
        standard_error=float(lost.std() / np.sqrt(len(lost))),
        sqnr_db=level_of([(exact[output], found[output])], exclusive=False),
        cosine=float(np.einsum("nd,nd->n", reference, own, dtype=np.float64).mean()),
    )
