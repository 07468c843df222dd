"""From class names to class indices: the order is the model's, and a swapped one is found."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Task
from qdeploy.errors import DataError, ModelError
from qdeploy.evaluate.metrics import wilson_interval

Array = npt.NDArray[Any]

_GENERIC = re.compile(r"label_\d+", re.IGNORECASE)
_MAX_CLASSES = 6  # 720 orders to try; with more classes a wrong order is not searched for
_FAR_BETTER = 0.2  # accuracy that another order must gain before it is called the right one


@dataclass(frozen=True)
class ClassOrder:
    """Class names by index, and who says so.

    Attributes:
        names: class names by index.
        origin: "model" (its id2label), or "glue" where the model has LABEL_0, LABEL_1 only.
    """

    names: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class SwappedOrder:
    """A class order that fits the labels far better than the one in use.

    Attributes:
        names: class names by index in the order that fits.
        accuracy: with that order, 0 … 1.
    """

    names: tuple[str, ...]
    accuracy: float


def class_order(model_labels: Sequence[str], task: Task) -> ClassOrder:
    """The model's own class names, or GLUE's order where they are generic.

    Raises:
        ModelError: fewer than two classes: a regression, which has no accuracy.
    """
    if len(model_labels) < 2:
        raise ModelError(
            f"The model has {len(model_labels)} class: a regression has no accuracy. Measure its "
            "latency alone, with accuracy off."
        )
    generic = all(_GENERIC.fullmatch(name) for name in model_labels)
    if generic and len(task.classes) == len(model_labels):
        return ClassOrder(task.classes, "glue")
    return ClassOrder(tuple(model_labels), "model")


def gold_indices(rows: Rows, order: ClassOrder) -> Array:
    """Class index of each row, int64 [N].

    Names are compared without regard to case, spaces, hyphens and underscores; labels that are
    all indices are taken in the model's order.

    Raises:
        DataError: rows without labels, of one class only, or with a class that the model lacks.
    """
    if rows.labels is None:
        raise DataError(
            f"{rows.source} has no label column, and accuracy needs one. Name it with "
            "--columns label=COLUMN, or measure latency alone, with accuracy off."
        )
    counts = Counter(rows.labels)
    if len(counts) == 1:
        raise DataError(
            f"{rows.source}: all {len(rows)} rows are of the class '{rows.labels[0]}', so that "
            "accuracy would say nothing. Take a set, or a --limit, that has every class."
        )
    places = _places(counts, order.names)
    for row_id, label in zip(rows.row_ids, rows.labels, strict=True):
        if label not in places:
            raise DataError(
                f"{rows.source}: row {row_id + 1} has the class '{label}', and the model knows "
                f"{', '.join(order.names)}. Rename the classes in the file, or set id2label in "
                "the checkpoint's config.json and export again."
            )
    return np.array([places[label] for label in rows.labels], np.int64)


def same_classes(own: ClassOrder, other: ClassOrder) -> list[int]:
    """Where each class of `own` stands in `other`: the columns that bring its logits into order.

    Raises:
        ModelError: the two engines have different classes.
    """
    places = {_plain(name): at for at, name in enumerate(other.names)}
    if sorted(places) != sorted(_plain(name) for name in own.names):
        raise ModelError(
            f"The baseline has the classes {', '.join(other.names)}, and the engine "
            f"{', '.join(own.names)}. Take a baseline built from the same model."
        )
    return [places[_plain(name)] for name in own.names]


def swapped_order(predicted: Array, gold: Array, names: Sequence[str]) -> SwappedOrder | None:
    """The order of classes that fits far better, or None.

    Found when the accuracy lies below what chance gives with the same class counts (its 95 %
    interval too), and another order gains 20 points or more.

    Args:
        predicted, gold: int64 [N] class indices.
        names: class names by index.
    """
    count, n = len(names), len(gold)
    if count > _MAX_CLASSES:
        return None
    table = np.zeros((count, count))
    np.add.at(table, (predicted, gold), 1)
    chance = float(table.sum(axis=1) @ table.sum(axis=0)) / n**2
    right = int(np.trace(table))
    if wilson_interval(right, n)[1] >= chance:
        return None

    def fits(order: tuple[int, ...]) -> float:
        return float(sum(table[at, to] for at, to in enumerate(order))) / n

    best = max(itertools.permutations(range(count)), key=fits)
    if fits(best) - right / n < _FAR_BETTER:
        return None
    return SwappedOrder(tuple(names[to] for to in best), fits(best))


def _places(labels: Counter[str], names: tuple[str, ...]) -> dict[str, int]:
    by_name = {_plain(name): at for at, name in enumerate(names)}
    if all(label.isdecimal() for label in labels) and not all(_plain(x) in by_name for x in labels):
        return {label: int(label) for label in labels if int(label) < len(names)}
    return {label: by_name[_plain(label)] for label in labels if _plain(label) in by_name}


def _plain(name: str) -> str:
    """`Not-Entailment`, `not entailment` and `not_entailment` are one class."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())
