"""How good the answers of a head are, by its own metrics: of heads that answer with values.

Correlations are scipy's and rankings scikit-learn's. Intervals are percentiles of a bootstrap over
rows (or over queries), and that of a drop draws the same rows for both engines (Efron and
Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.errors import DataError
from qdeploy.evaluate.answer_quality import F1 as ANSWER_F1
from qdeploy.evaluate.bootstrap import figure_of
from qdeploy.evaluate.embeddings import unit
from qdeploy.evaluate.tagging import F1
from qdeploy.head import EMBEDDINGS, REGRESSION, SEQUENCES, SPANS, TOKENS, Head
from qdeploy.machine.remedies import require
from qdeploy.schemas.quality import Quality, QualityFigure
from qdeploy.types import Array

SPEARMAN, PEARSON, MSE, NDCG, MRR = "spearman", "pearson", "mse", "ndcg@10", "mrr@10"
_LOWER_IS_BETTER = (MSE,)
_DRAWS = 400
_CUT = 10  # of a ranking
_LEAST = 3  # rows of a correlation

Metric = Callable[[Array, Array], float]  # (gold [N], answers [N]) → value


@dataclass(frozen=True)
class Values:
    """What an engine says of each row, as one number.

    Attributes:
        answers: float64 [N].
        gold: float64 [N], the labels.
        queries: int64 [N], rows of one query have one number; None where rows are no rankings.
    """

    answers: Array
    gold: Array
    queries: Array | None = None


def metric_of(head: Head) -> str | None:
    """The metric that a head is judged by; None of heads that this module has none for."""
    if head.task == EMBEDDINGS:
        return SPEARMAN
    if head.task == TOKENS:
        return F1
    if head.task == SPANS:
        return ANSWER_F1
    values = head.problem_type == REGRESSION or len(head.labels) == 1
    return SPEARMAN if head.task == SEQUENCES and values and len(head.labels) == 1 else None


def no_quality(head: Head, rows: Rows, *, stands_in: bool) -> str | None:
    """Why a head's own metric is not measured on these rows, as a clause; None where it is."""
    if metric_of(head) is None:
        return (
            "classes of a row, values, embeddings, tags and answers are measured so far, and this "
            f"is a {head.description}"
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
    gold = _numbers(rows)
    if head.task == EMBEDDINGS:
        vectors = unit(outputs.astype(np.float64))
        return Values(np.einsum("nd,nd->n", vectors[0::2], vectors[1::2]), gold)
    queries = None
    if rows.second is not None and head.problem_type != REGRESSION:
        _, queries = np.unique(np.array(rows.first), return_inverse=True)
        if np.bincount(queries).max() < 2:
            queries = None
    return Values(outputs[:, 0].astype(np.float64), gold, queries)


def _numbers(rows: Rows) -> Array:
    assert rows.labels is not None
    found = []
    for row_id, label in zip(rows.row_ids, rows.labels, strict=True):
        try:
            value = float(label)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
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
    figures = [_by_rows(SPEARMAN, own, base, seed), _by_rows(PEARSON, own, base, seed)]
    if head.problem_type == REGRESSION:
        figures.append(_by_rows(MSE, own, base, seed))
    if own.queries is not None:
        figures += [_by_queries(name, own, base, seed) for name in (NDCG, MRR)]
    return {
        "metric": main,
        "n": len(own.gold),
        "queries": None if own.queries is None else int(own.queries.max()) + 1,
        "figures": figures,
        "kendall": None if base is None else _kendall(own, base),
    }


def _by_rows(name: str, own: Values, base: Values | None, seed: int) -> QualityFigure:
    metric, rows = _METRICS[name], len(own.gold)

    def value(of: Values, drawn: Array | None) -> float:
        if drawn is None:
            return metric(of.gold, of.answers)
        return metric(of.gold[drawn], of.answers[drawn])

    return _figure(name, rows, lambda drawn: value(own, drawn),
                   None if base is None else lambda drawn: value(base, drawn), seed)  # fmt: skip


def _by_queries(name: str, own: Values, base: Values | None, seed: int) -> QualityFigure:
    """The mean over queries, which are what is drawn."""
    mine = _of_each_query(name, own)
    theirs = None if base is None else _of_each_query(name, base)

    def mean(of: Array) -> Callable[[Array | None], float]:
        return lambda drawn: float(of.mean() if drawn is None else of[drawn].mean())

    return _figure(name, len(mine), mean(mine), None if theirs is None else mean(theirs), seed)


def _figure(
    name: str,
    count: int,
    own: Callable[[Array | None], float],
    base: Callable[[Array | None], float] | None,
    seed: int,
) -> QualityFigure:
    """A metric with its intervals; each callable takes what is drawn, None for all."""
    rng = np.random.default_rng(seed)
    # labels of a draw that are all alike have no correlation: NaN, which says nothing
    draws = [None, *(rng.integers(0, count, count) for _ in range(_DRAWS))]
    mine = np.array([own(drawn) for drawn in draws])
    theirs = None if base is None else np.array([base(drawn) for drawn in draws])
    return figure_of(name, mine, theirs, lower_is_better=name in _LOWER_IS_BETTER)


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


def _of_each_query(name: str, values: Values) -> Array:
    """NDCG@10 or MRR@10 of each query; a row whose label is above 0 is relevant to it."""
    assert values.queries is not None
    order = np.argsort(values.queries, kind="stable")
    ends = np.flatnonzero(np.diff(values.queries[order])) + 1
    found = []
    for rows in np.split(order, ends):
        gold, answers = values.gold[rows], values.answers[rows]
        found.append(_ndcg(gold, answers) if name == NDCG else _mrr(gold, answers))
    return np.array(found)


def _ndcg(gold: Array, answers: Array) -> float:
    from sklearn.metrics import ndcg_score

    if len(gold) < 2:
        return 1.0
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
