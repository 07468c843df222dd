"""The label of a record, however its source has it: a class, several in a list or in a cell, or a
column of 0 and 1 for each class.

It becomes one string: the name or index of a class, or those of several, joined
(`qdeploy.data.tokens`). The empty string is of a row that has none of the classes. The answers of a
question are `qdeploy.data.gold_answers`', and spans of entities `qdeploy.data.span_labels`'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from qdeploy.data.class_columns import flag_of
from qdeploy.data.classes import whole_number
from qdeploy.data.gold_answers import label_of
from qdeploy.data.span_labels import are_spans, span_label
from qdeploy.data.tasks import ANSWERS, Columns, Task
from qdeploy.data.tokens import BETWEEN, joined
from qdeploy.data.values import is_writable, shown
from qdeploy.errors import DataError

_BOOLEANS = {"false": 0, "true": 1}
_MISSING = -1  # so GLUE's test split and the hub mark labels that are missing


class LabelReader:
    """Labels of one source.

    Args:
        source: its name, for error texts.
        task: what its rows are for.
        columns: where they stand.
        gaps: rows without a label will do, and a -1 is one, whatever the others are.

    Attributes:
        numbered: labels that are numbers or truth values, with the class of the task of each.
    """

    def __init__(self, source: str, task: Task, columns: Columns, *, gaps: bool) -> None:
        self._source, self._columns = source, columns
        self._are_answers = task.label == ANSWERS
        self._classes = task.classes if task.names_integers else ()
        self._minus_one_is_none = gaps or bool(task.classes)
        self.numbered: dict[str, str] = {}

    def read(self, place: str, values: Mapping[str, object]) -> str | None:
        """The label of a record; None where it has none.

        Raises:
            DataError: what stands there is no label.
        """
        if self._columns.classes:
            return self._of_columns(place, values)
        value = values.get(self._columns.label)
        where = f"{self._source}, {place}: column '{self._columns.label}'"
        if self._are_answers:
            return label_of(where, value)
        if isinstance(value, list) and not value:
            return ""
        if are_spans(value):
            return span_label(where, cast("list[object]", value))
        separator = self._columns.separator
        if separator is not None and isinstance(value, str) and BETWEEN not in value:
            return self._of_cell(place, value, separator)
        return self._of_value(place, value)

    def _of_columns(self, place: str, values: Mapping[str, object]) -> str | None:
        """The classes whose column is 1; None where a column is blank or -1."""
        flags = {}
        for column in self._columns.classes:
            try:
                flags[column] = flag_of(values.get(column))
            except ValueError:
                raise DataError(
                    f"{self._source}, {place}: column '{column}' is {shown(values[column])}, and 0 "
                    "or 1 was expected, as columns of a class have. Mend or drop that row."
                ) from None
        if None in flags.values():
            return None
        return joined([column for column, flag in flags.items() if flag])

    def _of_cell(self, place: str, cell: str, separator: str) -> str:
        """The classes of a cell; an empty one has none."""
        if not cell.strip():
            return ""
        items = [item.strip() for item in cell.split(separator)]
        if not all(items) or not is_writable(cell):
            raise DataError(
                f"{self._source}, {place}: column '{self._columns.label}' is {shown(cell)}, and "
                f"classes with '{separator}' between them were expected. Mend or drop that row."
            )
        return joined(items)

    def _of_value(self, place: str, value: object) -> str | None:
        """The class name of a value; None where it means that there is none."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        try:
            text = str(value)
        except RecursionError:
            text = "\ud800"  # refused as what cannot be written
        if not is_writable(text):
            raise DataError(
                f"{self._source}, {place}: column '{self._columns.label}' is {shown(value)}, and "
                "the name or number of a class was expected. Mend or drop that row."
            )
        text = text if BETWEEN in text else text.strip()
        if isinstance(value, bool):
            text = text.lower()
        number = _BOOLEANS.get(text.lower(), whole_number(text))
        if not text or (number == _MISSING and self._minus_one_is_none):
            return None
        if number is not None and 0 <= number < len(self._classes):
            self.numbered[text] = self._classes[number]
            return self._classes[number]
        return text if number is None or not isinstance(value, float) else str(number)


def may_be_missing(label: str) -> bool:
    """Whether a label is a -1, which is a score among scores, and where all are -1 says nothing."""
    return whole_number(label) == _MISSING
