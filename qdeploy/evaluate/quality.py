"""How good the answers of a head are, by its own metrics: of heads that answer with values.

Correlations are scipy's and rankings scikit-learn's. Intervals are percentiles of a bootstrap over
rows (or over queries), and that of a drop draws the same rows for both engines (Efron and
Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qdeploy.data.label_forms import refuse_other_form
from qdeploy.data.rows import Rows
from qdeploy.errors import DataError
from qdeploy.evaluate.answer_quality import F1 as ANSWER_F1
from qdeploy.evaluate.bootstrap import figures_of
from qdeploy.evaluate.embeddings import unit
from qdeploy.evaluate.multilabel import MICRO_F1
from qdeploy.evaluate.tagging import F1
from qdeploy.head import EMBEDDINGS, MULTI_LABEL, REGRESSION, SEQUENCES, SPANS, TOKENS, Head
from qdeploy.machine.remedies import require
from qdeploy.schemas.quality import MSE, Quality
from qdeploy.types import Array

SPEARMAN, PEARSON, NDCG, MRR = "spearman", "pearson", "ndcg@10", "mrr@10"
_LOWER_IS_BETTER = (MSE,)
_CUT = 10  # of a ranking
_LEAST = 3  # rows of a correlation

Metric = Callable[[Array, Array], float]  # (gold [N], answers [N]) → value


@dataclass(frozen=True)
class Values:
    """What an engine says of each row, as one number.

    Attributes:
        answers: float64 [N].
        gold: float64 [N], the labels.
        queries: int64 [N], rows of one query have one number; None where there are no queries.
    """

    answers: Array
    gold: Array
    queries: Array | None = None

    def count(self, name: str) -> int:
        """The rows; of rankings the queries."""
        return len(self.parts) if name in _OF_QUERIES else len(self.gold)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """A metric of all rows or queries, or of those that were drawn.

        Labels of a draw that are all alike have no correlation: NaN, which says nothing.
        """
        if name in _OF_QUERIES:
            each = self._each[name]
            return float(np.mean(each if drawn is None else each[drawn]))
        metric = _METRICS[name]
        if drawn is None:
            return metric(self.gold, self.answers)
        return metric(self.gold[drawn], self.answers[drawn])

    @cached_property
    def parts(self) -> list[Array]:
        """The rows of each query that can be ranked: several, of which one at least is relevant.

        A row whose label is above 0 is relevant. Any other query counts the same however its rows
        are ranked.
        """
        if self.queries is None:
            return []
        order = np.argsort(self.queries, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(self.queries))[:-1])
        return [part for part in parts if len(part) > 1 and self.gold[part].max() > 0]

    @property
    def rankings(self) -> tuple[str, ...]:
        """The metrics that rankings have; gains of NDCG are not below 0."""
        if not self.parts:
            return ()
        return (MRR,) if self.gold.min() < 0 else (NDCG, MRR)

    @cached_property
    def _each(self) -> dict[str, Array]:
        """NDCG@10 and MRR@10 of each query."""
        return {
            name: np.array(
                [_OF_QUERIES[name](self.gold[part], self.answers[part]) for part in self.parts]
            )
            for name in self.rankings
        }


def metric_of(head: Head) -> str | None:
    """The metric that a head is judged by; None of heads that this module has none for."""
    if head.task == TOKENS:
        return F1
    if head.task == SPANS:
        return ANSWER_F1
    if head.task == SEQUENCES and head.problem_type == MULTI_LABEL:
        return MICRO_F1
    return SPEARMAN if head.ranks else None


def no_quality(head: Head, rows: Rows, *, stands_in: bool) -> str | None:
    """Why a head's own metric is not measured on these rows, as a clause; None where it is."""
    if metric_of(head) is None:
        return (
            "classes, values, embeddings, tags and answers are measured so far, and this is a "
            f"{head.description}"
        )
    if stands_in:
        return f"{rows.source} stands in for rows of your own, and its labels are not the model's"
    if rows.labels is None:
        return rows.without_labels()
    if head.task == TOKENS and rows.second is not None:
        return "tags are measured on rows of one text, and rows are pairs"
    if head.task == SPANS and rows.second is None:
        return "answers are found in a context, and rows are single texts"
    if head.task == EMBEDDINGS and rows.second is None:
        return "similarities of embeddings are measured on pairs of texts, and rows are single ones"
    return None


def values_of(head: Head, rows: Rows, outputs: Array) -> Values:
    """The numbers that a head gives for labelled rows.

    Args:
        head: of values or embeddings.
        rows: with labels.
        outputs: FP32 [N, 1]; of embeddings [2N, D], the texts of a pair one behind the other.

    Raises:
        DataError: a label that is no number.
    """
    gold = numbers_of(rows)
    if head.task == EMBEDDINGS:
        vectors = unit(outputs.astype(np.float64))
        return Values(np.einsum("nd,nd->n", vectors[0::2], vectors[1::2]), gold)
    queries = None
    if rows.second is not None and head.problem_type != REGRESSION:
        _, queries = np.unique(np.array(rows.first), return_inverse=True)
    return Values(outputs[:, 0].astype(np.float64), gold, queries)


def numbers_of(rows: Rows) -> Array:
    """Labels that are numbers, float64 [N].

    Raises:
        DataError: one that is none.
    """
    assert rows.labels is not None
    found = []
    for at, (row_id, label) in enumerate(zip(rows.row_ids, rows.labels, strict=True)):
        try:
            value = float(label)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            refuse_other_form(rows, at, "the model answers with values")
            raise DataError(
                f"{rows.source}, row {row_id + 1}: the label is '{label[:40]}', and a number was "
                "expected: the model answers with values. Name the column that has them with "
                "--columns label=COLUMN."
            )
        found.append(value)
    return np.array(found)


def quality_of(own: Values, head: Head, base: Values | None, seed: int = 0) -> Quality:
    """The metrics of a head, with what is lost against a baseline on the same rows.

    Args:
        own, base: of the engine and its baseline; None where there is none.
        head: of values or embeddings.
        seed: of the bootstrap.

    Raises:
        DataError: fewer rows than a correlation takes, or labels that are all alike.
    """
    require("scipy", "sklearn")
    main = metric_of(head)
    assert main is not None
    if len(own.gold) < _LEAST or np.ptp(own.gold) == 0:
        raise DataError(
            f"{len(own.gold)} rows with labels from {own.gold.min():g} to {own.gold.max():g}: a "
            "correlation takes three rows or more, with labels that differ."
        )
    names = [SPEARMAN, PEARSON]
    if head.problem_type == REGRESSION:
        names.append(MSE)
    names += own.rankings
    return {
        "metric": main,
        "n": len(own.gold),
        "queries": len(own.parts) or None,
        "figures": figures_of(names, own, base, seed, lower_is_better=_LOWER_IS_BETTER),
        "kendall": None if base is None else _kendall(own, base),
    }


def _spearman(gold: Array, answers: Array) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, gold, answers)


def _pearson(gold: Array, answers: Array) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, gold, answers)


def _correlation(of: Callable[..., Any], gold: Array, answers: Array) -> float:
    """NaN where all values of a side are alike, which scipy warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(of(gold, answers).statistic)


def _mse(gold: Array, answers: Array) -> float:
    return float(np.mean(np.square(gold - answers)))


def _ndcg(gold: Array, answers: Array) -> float:
    from sklearn.metrics import ndcg_score

    return float(ndcg_score([gold], [answers], k=_CUT))


def _mrr(gold: Array, answers: Array) -> float:
    ranked = gold[np.argsort(-answers, kind="stable")][:_CUT]
    hits = np.flatnonzero(ranked > 0)
    return 0.0 if not len(hits) else 1.0 / (int(hits[0]) + 1)


def _kendall(own: Values, base: Values) -> float:
    """Agreement of the two rankings, Kendall's τ-b over all rows."""
    from scipy.stats import kendalltau

    return float(kendalltau(own.answers, base.answers).statistic)


_METRICS: dict[str, Metric] = {SPEARMAN: _spearman, PEARSON: _pearson, MSE: _mse}
_OF_QUERIES: dict[str, Metric] = {NDCG: _ndcg, MRR: _mrr}
