"""Labels of a multi-label classifier: which of its classes each row has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from qdeploy.data.classes import all_generic, plain_name
from qdeploy.data.label_forms import refuse_other_form
from qdeploy.data.reading import Reading
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns
from qdeploy.data.tokens import TAGS, items_of
from qdeploy.errors import DataError, PlanError
from qdeploy.evaluate.labels import INTEGERS, places_of, say_meaning
from qdeploy.head import MULTI_LABEL, Head
from qdeploy.names import few
from qdeploy.types import Array

_NAMED = 12  # classes, in an error text
_SEPARATORS = ("|", ",", ";", "/", " ")  # what may stand between the classes of a cell


def with_separator(reading: Reading, head: Head, separator: str | None) -> Reading:
    """The rows to read, where a cell of the label holds several classes.

    Args:
        reading: the rows.
        head: of the engine.
        separator: `--label-separator`; None leaves a cell one class.

    Raises:
        PlanError: rows, or a head, that have nothing to be separated.
    """
    if separator is None:
        return reading
    if head.problem_type != MULTI_LABEL:
        raise PlanError(
            "--label-separator is for multi-label classifiers, and this is a "
            f"{head.description}. Leave it out."
        )
    if not separator or reading.places.classes:
        fact = "is empty" if not separator else "is for one column, and each class has a column"
        raise PlanError(f"--label-separator {fact}. Leave it out, or pass it with label=COLUMN.")
    return replace(reading, columns=replace(reading.places, separator=separator))


def label_sets(rows: Rows, labels: Sequence[str], places: Columns) -> Array:
    """The classes of each row.

    A row has any number of classes, by their names or indices; or a 0 or a 1 for each class of the
    model, in its order. Names are compared as `qdeploy.evaluate.labels.gold_of` does.

    Args:
        rows: with labels (`qdeploy.data.row_labels`).
        labels: C class names of the model, by index.
        places: the columns that the labels came from.

    Returns:
        bool [N, C].

    Raises:
        DataError: a label that is no class of the model, lists that may be read in two ways,
            columns that are not those of the classes, no row with any class.
    """
    assert rows.labels is not None
    names = _names(rows, labels, places)
    items = [items_of(label) for label in rows.labels]
    if not places.classes:
        _check_column(rows, items, labels, places.label)
    if not places.classes and _are_flags(rows, items, len(labels)):
        gold: Array = np.array(items) == "1"
    else:
        gold = _by_class(rows, items, names)
    if not gold.any():
        raise DataError(
            f"{rows.source}: none of {len(rows)} rows has a class. Name labelled rows with --data, "
            "or their column with --columns label=COLUMN."
        )
    return gold


def _names(rows: Rows, labels: Sequence[str], places: Columns) -> Sequence[str]:
    """What the classes are called in the rows: of a model without names of its own as the columns.

    Raises:
        DataError: columns that are not those of the classes.
    """
    columns = places.classes
    if not columns:
        return labels
    if all_generic(labels) and len(columns) == len(labels):
        return columns
    if {plain_name(name) for name in labels} == {plain_name(name) for name in columns}:
        return labels
    lacking = [name for name in labels if plain_name(name) not in set(map(plain_name, columns))]
    fact = f"none for {_few(lacking)}" if lacking else f"{len(columns)} columns were named"
    raise DataError(
        f"{rows.source}: a column of 0 and 1 was expected for each of the {len(labels)} classes of "
        f"the model ({_few(labels)}), and there is {fact}. Name them all with --columns "
        "labels=COLUMN+COLUMN."
    )


def _are_flags(rows: Rows, items: Sequence[Sequence[str]], classes: int) -> bool:
    """Whether lists have a 0 or a 1 for each class, and not the indices of some.

    Indices stand in a row once. So a row that has one twice tells; with two classes none may.

    Raises:
        DataError: nothing tells.
    """
    if any(len(row) != classes for row in items) or set(chain(*items)) - {"0", "1"}:
        return False
    if any(len(set(row)) < len(row) for row in items) or any(row == ["1"] for row in items):
        return True
    raise DataError(
        f"{rows.source}: the labels of a row are {' and '.join(items[0])}, which may be indices of "
        "classes, or a 0 or 1 for each class, and no row tells. Write the names of the classes."
    )


def _check_column(
    rows: Rows, items: Sequence[Sequence[str]], labels: Sequence[str], column: str
) -> None:
    """Refuse a column whose numbers would be read as indices of classes, and are none.

    Raises:
        DataError: it is of one class alone, or holds tags of words.
    """
    if column == TAGS:
        raise DataError(
            f"{rows.source}: column '{column}' holds the tags of words, and a multi-label "
            "classifier takes the classes of a row. Name their column with --columns label=COLUMN."
        )
    flags = all(item in ("0", "1") for row in items for item in row)
    if flags and len(labels) > 1 and plain_name(column) in map(plain_name, labels):
        raise DataError(
            f"{rows.source}: column '{column}' is of one class, and the model has {len(labels)}. "
            f"Name a column for each with --columns labels={'+'.join(labels[:_NAMED])}."
        )


def _by_class(rows: Rows, items: Sequence[Sequence[str]], names: Sequence[str]) -> Array:
    """The classes that the items of each row name or number."""
    places, form = places_of(Counter(chain(*items)), names)
    gold = np.zeros((len(items), len(names)), bool)
    for at, (row_id, row) in enumerate(zip(rows.row_ids, items, strict=True)):
        where = f"{rows.source}, row {row_id + 1}"
        if strange := [item for item in row if item not in places]:
            expected = "a multi-label classifier takes classes"
            refuse_other_form(rows, at, expected, several=True)
            raise DataError(
                f"{where}: the label '{strange[0][:60]}' is no class of the model, which has "
                f"{_few(names)}. {_remedy(strange[0], names)}"
            )
        if form == INTEGERS and len(set(row)) < len(row):
            raise DataError(
                f"{where}: {len(row)} labels, and one stands there twice. Lists of indices have "
                f"each once; lists of 0 and 1 have {len(names)}, one for each class of the model."
            )
        gold[at, [places[item] for item in row]] = True
    say_meaning(rows, names, places if form == INTEGERS else {})
    return gold


def _remedy(label: str, names: Sequence[str]) -> str:
    """What to do about a label that is no class: maybe it is several."""
    for separator in _SEPARATORS:
        parts = [part.strip() for part in label.split(separator)]
        if len(parts) > 1 and len(places_of(Counter(parts), names)[0]) == len(set(parts)):
            return f"If '{separator}' stands between classes, pass --label-separator '{separator}'."
    return "Spell the classes as the model does, or number them from 0 up."


def _few(names: Sequence[str]) -> str:
    return few(names, _NAMED)
