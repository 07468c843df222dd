"""Rows to be answered, as they come: from a file, or from a pipe while somebody writes into it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from qdeploy.data.blocks import as_they_come, blocks_of
from qdeploy.data.check_rows import text_fault
from qdeploy.data.files import BLOCK, Stream, TextSource, standard_input
from qdeploy.data.names import TEXTS, check_is_text
from qdeploy.data.notice import say_texts, unread_texts, warn_of_unread
from qdeploy.data.readers import (
    Record,
    Table,
    named,
    read_csv,
    read_jsonl,
    read_parquet,
    read_text,
    read_tsv,
)
from qdeploy.data.squad import read_squad
from qdeploy.data.text_columns import find_text_columns
from qdeploy.data.tokens import WORD_SUFFIXES, read_conll, words_as_text
from qdeploy.data.values import peek
from qdeploy.errors import DataError, choose

T = TypeVar("T")

STDIN, ALL = "-", "all"
LINES: dict[str, Callable[[Path | TextSource], Table]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "text": read_text,
    "conll": read_conll,
    "json": read_squad,
}
_UNCOUNTED = ("conll", "json")  # a row is not a line
PARQUET = "parquet"
FORMATS = (*LINES, PARQUET)
_SUFFIXES = {f".{name}": name for name in FORMATS} | {".txt": "text"}
_SUFFIXES |= dict.fromkeys(WORD_SUFFIXES, "conll")


class Asked(NamedTuple):
    """A row: where it stands ("line 7"), its text or its two, and the values that are kept.

    `fault` says why it cannot be answered ("column 'text' holds no text"); None where it can.
    """

    place: str
    texts: tuple[str, ...]
    kept: Mapping[str, object]
    fault: str | None = None


@dataclass(frozen=True)
class Incoming:
    """Rows of one source.

    Attributes:
        table: the source.
        waits: whether rows come as somebody writes them.
        expected: how many there are, about; 0 where nobody knows.
        guessed: nothing says that it holds what it is read as.
    """

    table: Table
    waits: bool
    expected: int
    guessed: bool = False

    def rows(
        self, columns: str | None, keep: str | None, remembered: Sequence[str] = ()
    ) -> Iterator[Asked]:
        """Every row.

        Args:
            columns, remembered: of `find_text_columns`.
            keep: names of columns that go with a row, with commas; "all"; None for none.

        Raises:
            DataError: columns that are not there, or what the source raises.
        """
        name, known = self.table.name, self.table.columns
        find = partial(find_text_columns, asked=columns, source=name, remembered=remembered)
        texts = None if known is None else find(known)
        kept = _kept(keep, known, name)
        wanted = {*(texts or ()), *(kept if kept is not None else known or ())}
        inferred = columns is None and texts != tuple(remembered)
        if texts is not None:
            # rows that come one by one are not waited for: the first of them is looked at
            first = [] if self.waits else peek(self.table, known or ())
            self._say(known or (), texts, kept, first, inferred=inferred)
        for place, values in self._records(wanted):
            if texts is None:  # the first record tells
                texts = find(tuple(values))
                inferred = columns is None and texts != tuple(remembered)
                first = [values] if self.waits else peek(self.table, ())
                self._say(tuple(values), texts, kept, first, inferred=inferred)
            own = values if kept is None else {column: values.get(column) for column in kept}
            whole = {column: words_as_text(values[column]) for column in texts if column in values}
            faults = [_fault(values, whole, column) for column in texts]
            found = tuple(str(whole.get(column)) for column in texts)
            yield Asked(place, found, own, next(filter(None, faults), None))

    def kept_columns(self, keep: str | None) -> tuple[str, ...]:
        """Columns that go with a row, as far as they are known before the first.

        Raises:
            DataError: of `rows`.
        """
        kept = _kept(keep, self.table.columns, self.table.name)
        return (self.table.columns or ()) if kept is None else kept

    def _records(self, wanted: Collection[str]) -> Iterator[Record]:
        """The source's own; a first line that is none of them may be of another form."""
        records = iter(self.table.read(wanted))
        try:
            first = next(records, None)
        except DataError as error:
            if not self.guessed:
                raise
            raise DataError(
                f"{error} Standard input is read as JSON lines: name another form with --format, "
                "such as --format text for a text a line."
            ) from None
        if first is not None:
            yield first
            yield from records

    def _say(
        self,
        known: Sequence[str],
        texts: Sequence[str],
        kept: Sequence[str] | None,
        records: Sequence[Mapping[str, object]],
        *,
        inferred: bool,
    ) -> None:
        """Say which columns are read.

        Raises:
            DataError: the text was inferred, and holds ids alone.
        """
        name, others = self.table.name, known if kept is None else kept
        if inferred:
            for column in texts:
                check_is_text(name, column, records, "--columns COLUMN")
            if len(texts) == 1:
                found = unread_texts(known, (*texts, *others), records, TEXTS)
                single = f"--columns {texts[0]}"
                warn_of_unread(
                    name, texts[0], found, single=single, pair=lambda second: f"{single},{second}"
                )
        if tuple(known) != ("text",):  # lines of text have no columns
            say_texts(name, known, texts, others)

    def blocks(self, rows: Iterator[T], size: int) -> Iterator[list[T]]:
        """Rows in blocks of `size`, or of those that have come: none waits for the next to come.

        What stands before a fault is given before the fault is raised.
        """
        return as_they_come(rows, size) if self.waits else blocks_of(rows, size)


def open_incoming(source: str | Path, form: str | None) -> Incoming:
    """Open a file, or standard input ("-").

    Args:
        form: one of `FORMATS`; None goes by the suffix of a file, and is JSONL for a pipe.

    Raises:
        DataError: no such file or format, a header that is none, Parquet from a pipe.
    """
    if form is not None:
        choose("format", form, FORMATS, DataError)
    if str(source) == STDIN:
        table = _lines(form or "jsonl")(standard_input())
        return Incoming(table, waits=True, expected=0, guessed=form is None)
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. Name a file of rows ({', '.join(_SUFFIXES)}), or - for "
            "standard input."
        ) from None
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        read = _lines(form or _SUFFIXES.get(path.suffix, "jsonl"))
        return Incoming(read(Stream(path.open("rb", buffering=0), str(path))), True, 0)
    form = form or _SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise DataError(
            f"{path} has the suffix '{path.suffix}', and {', '.join(_SUFFIXES)} are known. Say "
            "what it holds with --format."
        )
    if form == PARQUET:
        return Incoming(read_parquet(path), waits=False, expected=_parquet_rows(path))
    expected = 0 if form in _UNCOUNTED else _line_count(path, form)
    return Incoming(LINES[form](path), waits=False, expected=expected)


def _lines(form: str) -> Callable[[Path | TextSource], Table]:
    if form == PARQUET:
        raise DataError(
            "Parquet cannot be read from a pipe: its index stands at the end. Name the file."
        )
    return LINES[form]


def _kept(keep: str | None, known: Sequence[str] | None, source: str) -> tuple[str, ...] | None:
    """Names of the columns that go with a row; None for all.

    Raises:
        DataError: one that the source does not have.
    """
    if keep == ALL:
        return None
    names = tuple(name.strip() for name in (keep or "").split(",") if name.strip())
    for name in names:
        if known is not None and name not in known:
            raise DataError(
                f"{source} has no column '{name}', which --keep names; it has: {named(known)}."
            )
    return names


def _fault(values: Mapping[str, object], texts: Mapping[str, object], column: str) -> str | None:
    """Why a column gives no text, as a clause; None where it does.

    Args:
        values: of the record.
        texts: those of the columns of texts, with the words of a list as one.
        column: of a text.
    """
    if column not in values:
        return f"there is no column '{column}'; there are: {named(values)}"
    fault = text_fault(texts[column])
    return None if fault is None else f"column '{column}' {fault}"


def _line_count(path: Path, form: str) -> int:
    """Lines of a file without its header: about its rows, since a field may hold a line end."""
    count = 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(BLOCK):
            count += block.count(b"\n")
    return max(0, count - (form in ("csv", "tsv")))


def _parquet_rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)
