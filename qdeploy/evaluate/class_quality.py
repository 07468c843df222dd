"""Macro F1 and Matthews' correlation of a classifier, from its confusion matrix.

Both are scikit-learn's (`f1_score(average="macro")`, `matthews_corrcoef`), over the classes that
stand among labels or answers. A bootstrap over rows draws the cells of the table of labels, answers
and the baseline's answers, which is the same, in time that does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qdeploy.evaluate.bootstrap import figure_of
from qdeploy.schemas.quality import Quality, QualityFigure
from qdeploy.types import Array

MACRO_F1, MCC = "macro F1", "MCC"
_DRAWS = 400


def class_quality(gold: Array, answers: Array, base: Array | None, seed: int = 0) -> Quality:
    """The metrics with their intervals, and what is lost against a baseline on the same rows.

    Args:
        gold, answers, base: int64 [N] class indices; `base` None where there is no baseline.
        seed: of the bootstrap.
    """
    theirs = answers if base is None else base
    classes = int(max(gold.max(), answers.max(), theirs.max())) + 1
    cells, counts = np.unique(np.stack([gold, answers, theirs]), axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(gold), counts / len(gold), _DRAWS)

    def figure(name: str) -> QualityFigure:
        own = _of_all(name, classes, cells[0], cells[1], counts, draws)
        if base is None:
            return figure_of(name, own, None)
        return figure_of(name, own, _of_all(name, classes, cells[0], cells[2], counts, draws))

    figures = [figure(MACRO_F1), figure(MCC)]
    return {
        "metric": "accuracy",
        "n": len(gold),
        "queries": None,
        "figures": figures,
        "kendall": None,
    }


def _of_all(
    name: str, classes: int, gold: Array, answers: Array, counts: Array, draws: Array
) -> Array:
    """A metric of the rows as they are, and of each draw, float64 [1 + draws]."""
    metric = _METRICS[name]
    place = gold * classes + answers
    tables = (
        np.bincount(place, weights=drawn, minlength=classes**2).reshape(classes, classes)
        for drawn in (counts, *draws)
    )
    return np.array([metric(table) for table in tables])


def macro_f1(table: Array) -> float:
    """The mean of the F1 of each class; [labels, answers]."""
    right, answered, labelled = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
    known = (answered + labelled) > 0
    return float(np.mean(2 * right[known] / (answered + labelled)[known]))


def matthews(table: Array) -> float:
    """Matthews' correlation coefficient for any number of classes (Gorodkin 2004); [labels,
    answers]; 0 where labels or answers are of one class."""
    answered, labelled, rows = table.sum(axis=0), table.sum(axis=1), table.sum()
    size = (rows**2 - answered @ answered) * (rows**2 - labelled @ labelled)
    above = float(table.trace() * rows - answered @ labelled)
    return above / float(np.sqrt(size)) if size > 0 else 0.0


_METRICS: dict[str, Callable[[Array], float]] = {MACRO_F1: macro_f1, MCC: matthews}
