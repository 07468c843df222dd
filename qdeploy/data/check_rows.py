"""Records of a source into texts and class names, one by one, or an error that says what is wrong.

Memory does not grow with the records.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from qdeploy.data.classes import whole_number
from qdeploy.data.gold_answers import label_of
from qdeploy.data.readers import Record, Table, named
from qdeploy.data.tasks import ANSWERS, Columns, Task
from qdeploy.data.tokens import as_text
from qdeploy.errors import DataError

_COLUMNS_KEPT = 100  # names of columns, where every record may bring new ones


class Row(NamedTuple):
    """Texts and class of one record; `second` of a task of pairs only, no `label` where it has
    none."""

    first: str
    second: str | None
    label: str | None


class CheckedRows:
    """A table with what is wanted of it.

    Args:
        table: the source.
        task: what its rows are for.
        columns: where they stand.
        split: "evaluation", or "calibration", which takes rows of which some have no class.

    Attributes:
        source: name of the table.
        pairs: whether a row has two texts.
    """

    def __init__(self, table: Table, task: Task, columns: Columns, split: str) -> None:
        self.source, self.pairs = table.name, columns.second is not None
        self._table, self._task, self._columns = table, task, columns
        self._gaps = split == "calibration"
        self._texts = list(columns.texts)
        self._wanted = {*self._texts, columns.label}
        self._seen = dict.fromkeys(table.columns or ())
        self._labelled, self._unlabelled = False, ""
        self._count = self._blanks = 0
        self._numbered: dict[str, str] = {}

    @property
    def numbered(self) -> tuple[tuple[str, str], ...]:
        """Labels that are numbers or truth values, with the class of the task that each means."""
        return tuple(sorted(self._numbered.items()))

    @property
    def blank(self) -> str | None:
        """The label column, where there is one and none of the rows has a class."""
        column = self._columns.label
        return column if column in self._seen and not self._labelled else None

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """Every record as a row, or the first ones only, behind which nothing is read.

        Raises:
            DataError: no rows, wrong columns, a row without text, or what the source raises.
        """
        records = self._table.read(self._wanted)
        at = -1
        for at, (place, values) in enumerate(records):
            if self._table.columns is None:
                self._learn(values)
            elif at == 0:
                self._check_columns()
            yield self._row(place, values, records)
            if at + 1 == limit:
                break
        if at < 0:
            raise DataError(f"{self._table.name} holds no rows. Pass a data set that has some.")

    def chosen(self, places: Collection[int]) -> Iterator[tuple[int, Row]]:
        """The rows at these positions, which an earlier pass has judged.

        Raises:
            DataError: the source is not what it was.
        """
        last = max(places, default=-1)
        records = self._table.read(self._wanted)
        at = -1
        for at, (place, values) in enumerate(records):
            if at in places:
                yield at, self._row(place, values, records)
            if at == last:
                break
        self._table.check()
        if at < last:
            raise DataError(
                f"{self._table.name} had {last + 1} rows or more, and {at + 1} when it was read "
                "again. Run it again when nothing writes to it."
            )

    def labelled(self) -> bool:
        """Whether the rows of `rows` have classes: to be asked when they have been read.

        Raises:
            DataError: some have one and some do not, or none has where its column was named.
        """
        column, required = self._columns.label, self._columns.label_required
        if column not in self._seen:
            if required:
                raise self._wrong_column(column)
            return False
        if not self._unlabelled:
            return True
        if self._gaps or not (self._labelled or required):
            return False
        where = f"{self._table.name}, {self._unlabelled}: column '{column}' holds no class"
        if not self._labelled:
            raise DataError(
                f"{where}, and no other row has one. Name the column that has, or use a labelled "
                "split."
            )
        rows = f"{self._blanks} of {self._count} rows have none"
        which = "these rows" if self._blanks > 1 else "that row"
        raise DataError(f"{where}; {rows}. Give {which} a class, or drop {which}.")

    def _row(self, place: str, values: Mapping[str, object], records: Iterator[Record]) -> Row:
        texts = [self._text(place, values, column, records) for column in self._texts]
        label = self._label(place, values.get(self._columns.label))
        self._count += 1
        if label is not None:
            self._labelled = True
        else:
            self._blanks += 1
            self._unlabelled = self._unlabelled or place
        return Row(texts[0], texts[1] if len(texts) == 2 else None, label)

    def _text(
        self, place: str, values: Mapping[str, object], column: str, records: Iterator[Record]
    ) -> str:
        value = values.get(column)
        fact = text_fault(value)
        if fact is None:
            return as_text(str(value))
        if column not in values:
            self._look_for(column, records)
        raise DataError(
            f"{self._table.name}, {place}: column '{column}' {fact}, and text was expected. Mend "
            "or drop that row."
        )

    def _label(self, place: str, value: object) -> str | None:
        """The class name of a value; None where it means that there is none."""
        if self._task.label == ANSWERS:
            column = self._columns.label
            return label_of(f"{self._table.name}, {place}: column '{column}'", value)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        try:
            text = str(value).strip()
        except RecursionError:
            text = "\ud800"  # refused as what cannot be written
        if not _is_whole(text):
            raise DataError(
                f"{self._table.name}, {place}: column '{self._columns.label}' is "
                f"{_shown(value)}, and the name or number of a class was expected. Mend or drop "
                "that row."
            )
        if isinstance(value, bool):
            text = text.lower()
        number = {"false": 0, "true": 1}.get(text.lower(), whole_number(text))
        if not text or number == -1:  # GLUE's test split and the hub mark missing labels with -1
            return None
        classes = self._task.classes if self._task.names_integers else ()
        if number is not None and 0 <= number < len(classes):
            self._numbered[text] = classes[number]
            return classes[number]
        return text if number is None or not isinstance(value, float) else str(number)

    def _check_columns(self) -> None:
        """Refuse a source that lacks a column, before its first row is judged."""
        required = [self._columns.label] if self._columns.label_required else []
        for column in (*self._texts, *required):
            if column not in self._seen:
                raise self._wrong_column(column)

    def _learn(self, values: Mapping[str, object]) -> None:
        """Remember the columns of a record of a source that does not list them."""
        for column in values:
            if column in self._wanted or len(self._seen) < _COLUMNS_KEPT:
                self._seen[column] = None

    def _look_for(self, column: str, records: Iterator[Record]) -> None:
        """Read on, to tell a row that lacks a column from a source that does.

        Raises:
            DataError: no row has it.
        """
        with contextlib.suppress(DataError):  # a fault further down is not what is looked for
            while column not in self._seen and (record := next(records, None)) is not None:
                self._learn(record[1])
        if column not in self._seen:
            raise self._wrong_column(column)

    def _wrong_column(self, column: str) -> DataError:
        task = self._task
        own = [name for name in (task.first, task.second, task.label) if name is not None]
        return DataError(
            f"{self._table.name} has no column '{column}'; it has: {named(self._seen)}. Task "
            f"{task.name} needs {', '.join(own)}: map them with --columns "
            f"{','.join(f'{name}=COLUMN' for name in own)}."
        )


def text_fault(value: object) -> str | None:
    """What is wrong with a value where text belongs, as a clause; None where it is text."""
    if isinstance(value, str) and value and not value.isspace():
        return None if _is_whole(value) else "holds half of a surrogate pair"
    return "holds no text" if value is None or value == "" else f"is {_shown(value)}"


def _is_whole(text: str) -> bool:
    """Whether it can be written: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    """A value for an error text: short, and never an error of its own."""
    try:
        return repr(value[:40] if isinstance(value, str | bytes) else value)[:40]
    except (RecursionError, ValueError):  # nested, or an integer beyond Python's limit
        return f"a {type(value).__name__}"
