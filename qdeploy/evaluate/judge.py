"""What `--strategy auto` gates a head by: its own metric, on rows that calibrated nothing.

Rows without labels are judged by FP32's own answers, so that every answer that changes counts as
lost. Embeddings are judged by FP32's nearest texts, which needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.data.tokens import BETWEEN
from qdeploy.errors import DataError, PlanError, choose
from qdeploy.evaluate.accuracy import Compared
from qdeploy.evaluate.bootstrap import Scored, drawn_of
from qdeploy.evaluate.embeddings import NEIGHBOURS, neighbours_found, unit
from qdeploy.evaluate.heldout import DropEstimate, estimate_drop, level_of
from qdeploy.evaluate.labels import class_order, gold_of
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.own_metric import Scored as OwnScored
from qdeploy.evaluate.own_metric import load_metric, name_of
from qdeploy.evaluate.quality import MRR, NDCG, PEARSON, SPEARMAN, metric_of, values_of
from qdeploy.evaluate.tagging import (
    ACCURACY,
    F1,
    PRECISION,
    RECALL,
    counts_of,
    gold_tags,
    predicted_tags,
)
from qdeploy.head import EMBEDDINGS, TOKENS, Head
from qdeploy.machine.remedies import require
from qdeploy.types import Array, OwnMetric

Outputs: TypeAlias = Mapping[str, Array]  # by name, FP32 [rows or tokens, …]
RECALL_AT = f"recall@{NEIGHBOURS}"
_CLASS_ACCURACY = "accuracy"
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
    task: str,
    metric: OwnMetric | str | None = None,
) -> Judge:
    """The judge of a head on these rows.

    Args:
        base: the FP32 engine.
        rows: with labels or without.
        answered: what it answers of them.
        task: of the rows, for the order of generic class names.
        metric: a name, `module:function`, or a callable; None takes the head's own.

    Raises:
        PlanError: a metric that the head does not have.
        DataError: labels that do not fit the head, or too few rows.
    """
    head = base.head
    if isinstance(metric, str) and ":" in metric:
        metric = load_metric(metric)
    if callable(metric):
        scored = partial(_of_own, metric, rows, answered)
        return _by_score(name_of(metric), scored, head, labelled=rows.labels is not None)
    name = _chosen(head, metric)
    if head.chooses:
        gold = None if rows.labels is None else gold_of(
            rows, class_order(base.manifest["labels"], find_task(task))
        ).indices  # fmt: skip
        return Judge(
            name,
            gold is not None,
            lambda exact, found: estimate_drop(exact["logits"], found["logits"], gold),
        )
    if name == RECALL_AT:
        return Judge(name, False, _neighbours_lost)
    require("scipy", "sklearn")
    if head.task == TOKENS:
        spelled = base.encoder.spelled(rows, answered.lengths.max_length)
        said = predicted_tags(rows, spelled, answered.values["logits"], head.labels)
        known = rows if rows.labels is not None else _labelled(rows, map(BETWEEN.join, said))
        gold_of_words = gold_tags(known, head.labels)

        def tagged(outputs: Outputs) -> Scored:
            own = predicted_tags(known, spelled, outputs["logits"], head.labels)
            return counts_of(gold_of_words, own)

        return _by_score(name, tagged, head, labelled=rows.labels is not None)
    known = rows
    if rows.labels is None:
        known = _labelled(rows, map(str, answered.values["logits"][:, 0].tolist()))
    output = head.answers[0]
    judged = values_of(head, known, answered.values[output])
    if name in (NDCG, MRR) and judged.queries is None:
        raise DataError(
            f"--metric {name} is of rankings, and no two rows of {rows.source} have the same first "
            f"text. Take {SPEARMAN}, or rows with several texts for a query."
        )
    return _by_score(
        name,
        lambda outputs: values_of(head, known, outputs[output]),
        head,
        labelled=rows.labels is not None,
    )


def _chosen(head: Head, asked: str | None) -> str:
    """The name of the metric.

    Raises:
        PlanError: another one than the head has, or a head without any.
    """
    known: tuple[str, ...] = ()
    if head.chooses:
        known = (_CLASS_ACCURACY,)
    elif head.task == EMBEDDINGS:
        known = (RECALL_AT, SPEARMAN, PEARSON)
    elif head.task == TOKENS:
        known = (F1, PRECISION, RECALL, ACCURACY)
    elif metric_of(head) == SPEARMAN:
        known = (SPEARMAN, PEARSON, NDCG, MRR)
    if not known:
        raise PlanError(
            f"--strategy auto has no metric of its own for a {head.description}. Pass one of yours "
            "with --metric MODULE:FUNCTION, or name a strategy, such as peg."
        )
    if asked is None:
        return known[0]
    spelled = {name.casefold().replace(" ", "-"): name for name in known}
    return spelled[choose("metric", asked.casefold().replace(" ", "-"), spelled, PlanError)]


def _by_score(
    name: str, scored: Callable[[Outputs], Scored], head: Head, *, labelled: bool
) -> Judge:
    def loss(exact: Outputs, found: Outputs) -> DropEstimate:
        return _lost(name, scored, exact, found, exclusive=head.exclusive)

    return Judge(name, labelled, loss)


def _lost(
    name: str,
    scored: Callable[[Outputs], Scored],
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


def _of_own(metric: OwnMetric, rows: Rows, answered: Compared, outputs: Outputs) -> Scored:
    """Outputs of each row by themselves, for a callable."""
    head, count = answered.head, len(rows)
    kept = np.cumsum(answered.lengths.kept)[:-1]
    each = {
        name: np.split(values, kept) if not head.of_rows else np.split(values, count)
        for name, values in outputs.items()
    }
    if head.of_rows:  # [1, …] of a row; of a pair of texts that are embedded [2, …]
        each = {n: [v[0] if len(v) == 1 else v for v in parts] for n, parts in each.items()}
    per_row = [{name: parts[at] for name, parts in each.items()} for at in range(count)]
    return OwnScored(metric, per_row, rows.labels)


def _labelled(rows: Rows, labels: Sequence[str] | map[str]) -> Rows:
    return replace(rows, labels=tuple(labels))
