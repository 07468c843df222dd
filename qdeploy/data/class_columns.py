"""Columns of 0 and 1, one for each class of the model, as multi-label data sets have them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qdeploy.data.classes import all_generic, plain_name
from qdeploy.data.values import of_column

_FLAGS = {
    **dict.fromkeys(("0", "0.0", "false"), False),
    **dict.fromkeys(("1", "1.0", "true"), True),
    **dict.fromkeys(("", "-1", "-1.0"), None),  # not labelled, as in Jigsaw's test set
}


def flag_of(value: object) -> bool | None:
    """Whether a value says that a row is of a class; None where it says nothing.

    Raises:
        ValueError: it is neither.

    >>> flag_of("1"), flag_of(0.0), flag_of(True), flag_of("-1"), flag_of(None)
    (True, False, True, None, None)
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise ValueError
    try:
        return _FLAGS[str(value)[:10].strip().casefold()]
    except (KeyError, ValueError):  # a number beyond Python's limit
        raise ValueError from None


def class_columns(
    known: Sequence[str], records: Sequence[Mapping[str, object]], labels: Sequence[str]
) -> tuple[str, ...]:
    """The column of each class, in the model's order, where every class has one of 0 and 1; else
    none.

    Args:
        known: columns of the source.
        records: the first ones.
        labels: class names of the model.
    """
    if len(labels) < 2 or all_generic(labels):
        return ()
    places: dict[str, list[str]] = {}
    for column in known:
        places.setdefault(plain_name(column), []).append(column)
    found = [places.get(plain_name(name), []) for name in labels]
    if any(len(columns) != 1 for columns in found):
        return ()
    chosen = tuple(columns[0] for columns in found)
    flags = all(_are_flags(of_column(records, column)) for column in chosen)
    return chosen if flags and len(set(chosen)) == len(chosen) else ()


def _are_flags(values: Sequence[object]) -> bool:
    """Whether every value is a flag; False of no values."""
    try:
        return bool([flag_of(value) for value in values])
    except ValueError:
        return False
