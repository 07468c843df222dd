"""Macro F1, Matthews' correlation and F1 of a classifier, from its confusion matrix.

All are scikit-learn's (`f1_score(average="macro")`, `matthews_corrcoef`, `f1_score(pos_label=…)`),
the first over the classes that stand among labels or answers. A bootstrap over rows draws the cells
of the table of labels, answers and the baseline's answers, which is the same, in time that does not
grow with the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.classes import plain_name
from qdeploy.data.tasks import F1, MCC, Task
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.bootstrap import figure_of
from qdeploy.evaluate.labels import same_classes
from qdeploy.schemas.quality import ACCURACY, Quality, QualityFigure
from qdeploy.types import Array

MACRO_F1 = "macro F1"
_DRAWS = 400
_NAMED = 6  # classes, in a warning


@dataclass(frozen=True)
class Classes:
    """Answers of a classifier beside the labels (`qdeploy.evaluate.bootstrap.Scored`).

    Attributes:
        gold, answers: int64 [N], class indices.
        positive: the class of F1, if the task has one.
    """

    gold: Array
    answers: Array
    positive: int | None = None

    def count(self, name: str) -> int:
        """The rows, of every metric."""
        return len(self.gold)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """Macro F1, MCC or F1 of all rows, or of those that were drawn."""
        gold, answers = self.gold, self.answers
        if drawn is not None:
            gold, answers = gold[drawn], answers[drawn]
        classes = 1 + int(max(self.gold.max(), self.answers.max(), self.positive or 0))
        return metrics_of_classes(self.positive)[name](_table(gold, answers, classes))


def metrics_of_classes(positive: int | None) -> dict[str, Callable[[Array], float]]:
    """Metrics of a table [labels, answers], by name; F1 is that of the class `positive`."""
    found: dict[str, Callable[[Array], float]] = {}
    if positive is not None:
        found[F1] = lambda table: class_f1(table, positive)
    return found | {MACRO_F1: macro_f1, MCC: matthews}


def class_quality(
    gold: Array,
    answers: Array,
    base: Array | None,
    seed: int = 0,
    *,
    metric: str = ACCURACY,
    positive: int | None = None,
) -> Quality:
    """The metrics with their intervals, and what is lost against a baseline on the same rows.

    Args:
        gold, answers, base: int64 [N] class indices; `base` None where there is no baseline.
        seed: of the bootstrap.
        metric: what the engine is judged by; "F1" takes `positive`.
        positive: the class whose F1 is told; None for none.
    """
    theirs = answers if base is None else base
    classes = 1 + max(int(max(gold.max(), answers.max(), theirs.max())), positive or 0)
    cells, counts = np.unique(np.stack([gold, answers, theirs]), axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(gold), counts / len(gold), _DRAWS)

    def figure(name: str, of: Callable[[Array], float]) -> QualityFigure:
        own = _of_all(of, classes, cells[0], cells[1], counts, draws)
        if base is None:
            return figure_of(name, own, None)
        return figure_of(name, own, _of_all(of, classes, cells[0], cells[2], counts, draws))

    figures = [figure(name, of) for name, of in metrics_of_classes(positive).items()]
    return {
        "metric": metric,
        "n": len(gold),
        "queries": None,
        "figures": figures,
        "kendall": None,
    }


def judged_quality(own: Judged, base: Judged | None, task: Task, seed: int = 0) -> Quality:
    """What accuracy does not tell of labelled rows: of rare classes, and beyond chance.

    Args:
        own, base: of the engine and its baseline; None where there is none.
        task: of the rows, which says what a classifier is judged by.
        seed: of the bootstrap.

    Raises:
        ModelError: the two have different classes.
    """
    assert own.gold is not None
    answers = None
    if base is not None:
        answers = np.argmax(base.logits[:, same_classes(own.order, base.order)], axis=1)
    metric, positive = metric_of_task(task, own.order.names)
    return class_quality(own.gold, own.predicted, answers, seed, metric=metric, positive=positive)


def metric_doubt(task: Task, names: Sequence[str]) -> str | None:
    """Why a task is judged by accuracy and not by its own metric, as a warning; None if it is."""
    if metric_of_task(task, names)[0] == task.metric:
        return None
    return (
        f"{task.name} is judged by the F1 of the class '{task.classes[1]}', and the model has the "
        f"classes {', '.join(names[:_NAMED])}: it is judged by its accuracy here. Set id2label in "
        "the checkpoint's config.json and export again."
    )


def metric_of_task(task: Task, names: Sequence[str]) -> tuple[str, int | None]:
    """What a classifier is judged by on a task, and the class whose F1 that is.

    Args:
        task: of the rows.
        names: class names of the model, by index.

    Returns:
        The metric, or accuracy where F1 is asked for and the model has other classes than the task.
    """
    if task.metric != F1:
        return task.metric, None
    known = [plain_name(name) for name in names]
    wanted = [plain_name(name) for name in task.classes]
    return (F1, known.index(wanted[1])) if sorted(known) == sorted(wanted) else (ACCURACY, None)


def _of_all(
    metric: Callable[[Array], float],
    classes: int,
    gold: Array,
    answers: Array,
    counts: Array,
    draws: Array,
) -> Array:
    """A metric of the rows as they are, and of each draw, float64 [1 + draws]."""
    return np.array([metric(_table(gold, answers, classes, drawn)) for drawn in (counts, *draws)])


def _table(gold: Array, answers: Array, classes: int, weights: Array | None = None) -> Array:
    """How often each pair of a label and an answer stands there, float64 [labels, answers]."""
    counts = np.bincount(gold * classes + answers, weights=weights, minlength=classes**2)
    found: Array = counts.reshape(classes, classes).astype(np.float64, copy=False)
    return found


def class_f1(table: Array, at: int) -> float:
    """The F1 of one class, 0 where no row is of it or answered with it; [labels, answers]."""
    either = table[at].sum() + table[:, at].sum()
    return float(2 * table[at, at] / either) if either else 0.0


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
