"""Files of rows: TSV as GLUE writes it, CSV, JSON Lines and Parquet, each as one `Table`."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from qdeploy.data.files import LONGEST, DataFile, TextSource
from qdeploy.errors import DataError
from qdeploy.machine.remedies import install_command
from qdeploy.names import few

# Where a row stands ("line 7"), and its values by column; a key may be missing in JSON Lines only.
Record: TypeAlias = tuple[str, Mapping[str, object]]
_PARQUET_ROWS, _PARQUET_BUFFER = 256, 1 << 20  # of one batch; bytes read at a time from a column
_NAMED = 40  # columns, in an error text
# What may stand between the fields of a file, likeliest first, and the suffixes that say so.
_SEPARATORS = {"\t": "tabs", ";": "';'", "|": "'|'", ",": "commas"}
_SUFFIXES = {"\t": ".tsv", ",": ".csv"}


def _nothing() -> None:
    """The check of a source that cannot change."""


@dataclass(frozen=True)
class Table:
    """Records of one source, not yet judged, read from its start as often as wanted.

    Attributes:
        name: the source, for error texts.
        columns: every column that the source has; None where only reading it all tells.
        read: the records, one by one; what it takes are the columns that will be looked at.
        check: raises a DataError where the source changed since it was opened.
    """

    name: str
    columns: tuple[str, ...] | None
    read: Callable[[Collection[str]], Iterator[Record]]
    check: Callable[[], None] = _nothing


def read_tsv(source: Path | TextSource) -> Table:
    """Tab-separated rows without quoting, as GLUE's: a lone quotation mark is a character.

    Lines end at LF alone (a CR before it is dropped); other Unicode line ends are text.
    """
    file = text_source(source)

    def rows() -> Iterator[tuple[int, Sequence[str]]]:
        for number, whole in enumerate(file.lines(), 1):
            if line := whole.removesuffix("\n").removesuffix("\r"):
                yield number, line.split("\t")

    return _with_header(file, rows, "\t")


def read_csv(source: Path | TextSource) -> Table:
    """Comma-separated rows with standard quoting (RFC 4180)."""
    file = text_source(source)

    def rows() -> Iterator[tuple[int, Sequence[str]]]:
        # One figure for the process, which its threads read with: it is raised and never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        reader = csv.reader(file.lines(""), strict=True)
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
        except csv.Error as error:
            raise DataError(
                f"{file.path}, line {reader.line_num}: {error}. Quote fields that hold a comma, "
                "and double the quotation marks inside them; unquoted rows belong in a .tsv."
            ) from None

    return _with_header(file, rows, ",")


def _with_header(
    file: TextSource, rows: Callable[[], Iterator[tuple[int, Sequence[str]]]], separator: str
) -> Table:
    """A table from what numbers the rows of fields, the first of them the header."""
    path = file.path
    begun = rows()
    _, header = next(begun, (0, ()))
    rest = begun if file.once else None  # a file is opened again, and this one closed
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty: no header line. The first line names the columns.")
    columns = tuple(name.strip() for name in header)
    if any("\0" in name for name in columns):
        raise DataError(
            f"{path}, line 1: the header holds NUL bytes, as files in UTF-16 do. Save the file as "
            "UTF-8."
        )
    _check_separator(path, columns, separator)
    _once(path, columns)

    def read(_: Collection[str]) -> Iterator[Record]:
        numbered = rows() if rest is None else rest
        if rest is None:
            next(numbered, None)
        for line, fields in numbered:
            if len(fields) != len(columns):
                raise DataError(
                    f"{path}, line {line}: {len(fields)} fields, and the header has "
                    f"{len(columns)} ({named(columns)}). Mend that line."
                )
            yield f"line {line}", dict(zip(columns, fields, strict=True))

    return Table(str(path), columns, read, file.check)


def _check_separator(path: Path | str, columns: Sequence[str], separator: str) -> None:
    """Refuse a header of one name in which another separator stands: its rows would be one text.

    Raises:
        DataError: with the way out.
    """
    found = [mark for mark in _SEPARATORS if mark != separator and mark in columns[0].strip(mark)]
    if len(columns) > 1 or not found:
        return
    mark = found[0]
    own, other = _SEPARATORS[separator], _SEPARATORS[mark]
    remedy = f"Write it with {own} between the fields"
    if mark in _SUFFIXES and separator in _SUFFIXES:
        remedy += f", or give it the suffix {_SUFFIXES[mark]}"
    header = columns[0][:80].replace("\t", "\\t")
    raise DataError(
        f"{path} has one column, '{header}': is this separated by {other}? {remedy}. If "
        "it is one column, rename it."
    )


def read_jsonl(source: Path | TextSource) -> Table:
    """One JSON object per line."""
    file = text_source(source)

    def read(_: Collection[str]) -> Iterator[Record]:
        for number, text in enumerate(file.lines(), 1):
            if text.strip():
                yield f"line {number}", _json_object(f"{file.path}, line {number}", text)

    return Table(str(file.path), None, read, file.check)


def _json_object(where: str, text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error}).") from None
    except ValueError:  # Python's own limit, 4300 digits
        raise DataError(
            f"{where}: a number of thousands of digits. Write it as a string, or drop that row."
        ) from None
    except RecursionError:
        raise DataError(
            f"{where}: lists or objects inside each other, hundreds deep. Mend or drop that row."
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: a JSON {type(value).__name__}, and an object was expected "
            '({"column": value, …}).'
        )
    return value


def read_text(source: Path | TextSource) -> Table:
    """One text per line, in a column called `text`; lines that are blank are passed over."""
    file = text_source(source)

    def read(_: Collection[str]) -> Iterator[Record]:
        for number, whole in enumerate(file.lines(), 1):
            if whole.strip():
                yield f"line {number}", {"text": whole.removesuffix("\n").removesuffix("\r")}

    return Table(str(file.path), ("text",), read, file.check)


def text_source(source: Path | TextSource) -> TextSource:
    """The file of a path; what is open already stays as it is."""
    return DataFile(source) if isinstance(source, Path) else source


def read_parquet(path: Path) -> Table:
    """A Parquet file, through pyarrow (an optional dependency); only what is needed of it."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet needs pyarrow, which is not installed here. Run "
            f"`{install_command(packages=('pyarrow',))}`, or convert the file to .jsonl."
        ) from None
    file = DataFile(path)
    with _parquet_errors(path), file.open() as stream, parquet.ParquetFile(stream) as found:
        columns = tuple(found.schema_arrow.names)
    _once(path, columns)

    def read(wanted: Collection[str]) -> Iterator[Record]:
        chosen = [column for column in columns if column in wanted]
        number = 0
        with (
            _parquet_errors(path),
            file.open() as stream,
            # what is read ahead, and by threads, is held for the whole file
            parquet.ParquetFile(stream, buffer_size=_PARQUET_BUFFER, pre_buffer=False) as found,
        ):
            for batch in found.iter_batches(_PARQUET_ROWS, columns=chosen, use_threads=False):
                for values in batch.to_pylist():
                    number += 1
                    yield f"row {number}", values
        file.check()

    return Table(str(path), columns, read, file.check)


@contextlib.contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow's own are of many classes, and it raises others too
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path} is not a Parquet file that pyarrow reads: {text:.300}. Write it anew."
        ) from error


def _once(path: Path | str, columns: Sequence[str]) -> None:
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}: the header names a column twice: {named(columns)}.")


def named(columns: Collection[str]) -> str:
    """Names of columns for an error text: all of a usual table, and printable.

    >>> named(["question", "sentence", "\\ud800"])
    'question, sentence, \\\\ud800'
    """
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in columns]
    return few([name if len(name) <= 60 else f"{name[:60]}…" for name in shown], _NAMED)


READERS: dict[str, Callable[[Path], Table]] = {
    ".tsv": read_tsv,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
