"""From class names to class indices: the order is the model's, however a file spells its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.classes import all_generic, generic_index, plain_name, whole_number
from qdeploy.data.label_forms import refuse_other_form
from qdeploy.data.notice import say
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Task
from qdeploy.errors import DataError, ModelError
from qdeploy.names import few
from qdeploy.types import Array

NAMES, INTEGERS = "names", "integers"
_BOOLEANS = {"false": 0, "true": 1}
_NAMED = 8  # labels that are said with their class
_ENOUGH = 5  # rows for each class: of so many one is seldom without any by chance


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
class Gold:
    """The classes of labelled rows.

    Attributes:
        indices: int64 [N], in the model's order.
        form: "names", or "integers" where the labels are numbers that count the model's classes.
    """

    indices: Array
    form: str


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
    generic = all_generic(model_labels)
    if generic and len(task.classes) == len(model_labels):
        return ClassOrder(task.classes, "glue")
    return ClassOrder(tuple(model_labels), "model")


def gold_of(rows: Rows, order: ClassOrder) -> Gold:
    """Class of each row.

    Names are compared without regard to case, spaces, hyphens and underscores. Where labels are no
    names, numbers (`1`, `1.0`), `LABEL_1` and, of two classes, `true` and `false` are indices in
    the model's order. Which label was read as which class is said, where it is not its name.

    Raises:
        DataError: rows without labels, or with a class that the model lacks or has twice.
    """
    if rows.labels is None:
        raise DataError(
            f"{rows.without_labels()}, and accuracy needs them. {label_remedy(rows)}, or measure "
            "without accuracy (--no-accuracy)."
        )
    counts = Counter(rows.labels)
    places, form = places_of(counts, order.names)
    for at, (row_id, label) in enumerate(zip(rows.row_ids, rows.labels, strict=True)):
        if label not in places:
            refuse_other_form(rows, at, "a classifier takes one class a row")
            shown = label if len(label) <= 60 else f"{label[:60]}…"
            where = f"{rows.source}: row {row_id + 1} has the class '{shown}'"
            remedy = _remedy(order.names, counts, places)
            raise DataError(f"{where}, and the model knows {', '.join(order.names)}. {remedy}")
    say_meaning(rows, order.names, places if form == INTEGERS else {})
    return Gold(np.array([places[label] for label in rows.labels], np.int64), form)


def places_of(counts: Counter[str], names: Sequence[str]) -> tuple[dict[str, int], str]:
    """The class of each label that has one, and how labels are spelled: see `Gold.form`."""
    places, form = _by_name(counts, names), NAMES
    if len(places) < len(counts):
        numbers = _by_number(counts, len(names))
        if not places or len(numbers) == len(counts):
            places, form = numbers, INTEGERS
    return places, form


def label_remedy(rows: Rows) -> str:
    """What to do about rows without labels, as the start of a sentence."""
    if rows.blank is None:
        return "Name their column with --columns label=COLUMN"
    return "Name rows that have some with --data"


def absent_text(indices: Array, form: str | None, order: ClassOrder) -> str | None:
    """The doubt that numbers mean other classes, since some of the model's have no row; or None.

    Args:
        indices: int64 [N], the classes of the rows.
        form: of `Gold`. Names leave no doubt.
        order: of the classes. Few rows from class 0 on leave no doubt either.
    """
    names, found = order.names, set(indices.tolist())
    absent = [name for at, name in enumerate(names) if at not in found]
    short = len(indices) < _ENOUGH * len(names)
    if form != INTEGERS or not absent or (short and 0 in found):
        return None
    return (
        f"The labels are numbers, and stand for {len(found)} of the model's {len(names)} classes: "
        f"no row is of {few(absent, _NAMED)}. Numbers are read from 0 up. If these mean something "
        "else, write the names of the classes."
    )


def say_meaning(rows: Rows, names: Sequence[str], places: Mapping[str, int]) -> None:
    """Say how labels that are not names became classes: `labels: 0 = negative, 1 = positive`."""
    meaning = list(rows.numbered)
    pairs = sorted(places.items(), key=lambda pair: (pair[1], pair[0]))
    meaning += [(label, names[at]) for label, at in pairs]
    # of a class without a name there is nothing to say
    meaning = [
        (label, name)
        for label, name in meaning
        if whole_number(label) is None or whole_number(label) != generic_index(name)
    ]
    if not meaning:
        return
    named = [f"{label} = {name}" for label, name in meaning]
    say(f"{rows.source}, labels: {few(named, _NAMED)}")


def _remedy(names: Sequence[str], counts: Counter[str], places: Mapping[str, int]) -> str:
    """What to do about labels that are none of the model's classes."""
    text = ""
    numbers = [whole_number(label) for label in counts]
    highest = max((number for number in numbers if number is not None), default=None)
    from_one = highest == len(names) and 0 not in places.values()
    strange = sum(count for label, count in counts.items() if label not in places)
    if from_one:
        return text + (
            f"Numbers are read from 0 up, and these seem to start at 1: write 0 to {len(names) - 1}"
            ", or the names."
        )
    if len({plain_name(name) for name in names}) < len(names):
        text += "Several of its classes have one name, so that labels cannot tell them apart. "
    elif 2 * strange < counts.total():
        rows = "rows has" if strange == 1 else "rows have"
        which = "this row" if strange == 1 else "these rows"
        return (
            f"{strange} of {counts.total()} {rows} a class that it lacks: correct the "
            f"{'label' if strange == 1 else 'labels'}, or drop {which}."
        )
    return text + (
        "Rename the classes in the file, or set id2label in the checkpoint's config.json and "
        "export again."
    )


def _by_name(labels: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Labels that name one class of the model; exactly, or else as `plain_name` reads them."""
    exact, plain = Counter(names), Counter(map(plain_name, names))
    byplain_name = {plain_name(name): at for at, name in enumerate(names)}
    found = {}
    for label in labels:
        if exact[label] == 1:
            found[label] = names.index(label)
        elif exact[label] == 0 and plain[plain_name(label)] == 1:
            found[label] = byplain_name[plain_name(label)]
    return found


def _by_number(labels: Iterable[str], classes: int) -> dict[str, int]:
    """Labels that are indices of the model's classes."""
    found = {}
    for label in labels:
        index = whole_number(label)
        if index is None:
            index = generic_index(label)
        if index is None and classes == 2:
            index = _BOOLEANS.get(label.casefold())
        if index is not None and 0 <= index < classes:
            found[label] = index
    return found


def same_classes(own: ClassOrder, other: ClassOrder) -> list[int]:
    """Where each class of `own` stands in `other`: the columns that bring its logits into order.

    Raises:
        ModelError: the two engines have different classes.
    """
    places = {plain_name(name): at for at, name in enumerate(other.names)}
    if sorted(places) != sorted(plain_name(name) for name in own.names):
        raise ModelError(
            f"The baseline has the classes {', '.join(other.names)}, and the engine "
            f"{', '.join(own.names)}. Take a baseline built from the same model."
        )
    return [places[plain_name(name)] for name in own.names]
