"""Records of a source into texts and class names, one by one, or an error that says what is wrong.

Memory does not grow with the records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from qdeploy.data.readers import Record, Table, named
from qdeploy.data.row_labels import LabelReader, may_be_missing
from qdeploy.data.tasks import Columns, Task
from qdeploy.data.tokens import as_text
from qdeploy.data.values import is_writable, shown
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
        self._labels = LabelReader(table.name, task, columns, gaps=self._gaps)
        self._texts = list(columns.texts)
        self._wanted = {*self._texts, *columns.labels}
        self._seen = dict.fromkeys(table.columns or ())
        self._labelled, self._unlabelled, self._doubtful = False, "", ""
        self._count = self._blanks = 0

    @property
    def numbered(self) -> tuple[tuple[str, str], ...]:
        """Labels that are numbers or truth values, with the class of the task that each means."""
        return tuple(sorted(self._labels.numbered.items()))

    @property
    def blank(self) -> str | None:
        """The label column, where there is one and none of the rows has a class."""
        there = self._seen.keys() >= set(self._columns.labels)
        return self._columns.spelled_label[1] if there and not self._labelled else None

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
        columns, required = self._columns.labels, self._columns.label_required
        missing = [column for column in columns if column not in self._seen]
        if missing:
            if required or len(missing) < len(columns):
                raise self._wrong_column(missing[0])
            return False
        if self._labelled and not self._unlabelled:
            return True
        if self._gaps or not (self._labelled or required):
            return False
        first, spelled = self._unlabelled or self._doubtful, self._columns.spelled_label[1]
        where = f"{self._table.name}, {first}: column '{spelled}' holds no class"
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
        label = self._labels.read(place, values)
        self._count += 1
        if label is None:
            self._blanks += 1
            self._unlabelled = self._unlabelled or place
        elif may_be_missing(label):
            self._doubtful = self._doubtful or place
        else:
            self._labelled = True
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

    def _check_columns(self) -> None:
        """Refuse a source that lacks a column, before its first row is judged."""
        required = self._columns.labels if self._columns.label_required else ()
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
        if column in self._columns.classes:
            return DataError(
                f"{self._table.name} has no column '{column}'; it has: {named(self._seen)}. Name "
                "columns of 0 and 1, one for each class, with --columns labels=COLUMN+COLUMN."
            )
        own = [name for name in (task.first, task.second, task.label) if name is not None]
        return DataError(
            f"{self._table.name} has no column '{column}'; it has: {named(self._seen)}. Task "
            f"{task.name} needs {', '.join(own)}: map them with --columns "
            f"{','.join(f'{name}=COLUMN' for name in own)}."
        )


def text_fault(value: object) -> str | None:
    """What is wrong with a value where text belongs, as a clause; None where it is text."""
    if isinstance(value, str) and value and not value.isspace():
        return None if is_writable(value) else "holds half of a surrogate pair"
    return "holds no text" if value is None or value == "" else f"is {shown(value)}"
