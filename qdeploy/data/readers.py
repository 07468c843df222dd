"""Files of rows: TSV as GLUE writes it, CSV, JSON Lines and Parquet, each into one `Table`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.errors import DataError


@dataclass(frozen=True)
class Table:
    """Records of one source, not yet judged.

    Attributes:
        name: the source, for error texts.
        columns: every column that the source has.
        records: (place, values) of each row, where place says where it stands ("line 7") and
            values maps column to value; a key may be missing in JSON Lines only.
    """

    name: str
    columns: tuple[str, ...]
    records: list[tuple[str, dict[str, Any]]]


def read_table(path: Path) -> Table:
    """Read a file by its suffix.

    Raises:
        DataError: another suffix, undecodable bytes, a ragged or malformed row, no header, or
            Parquet without pyarrow.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} has the suffix '{path.suffix}', and rows are read from "
            f"{', '.join(READERS)}. Convert the file, or rename it if only its name is wrong."
        )
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _decode(path: Path) -> str:
    """The text of a UTF-8 file with its line ends untouched (a byte-order mark is dropped)."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # a decoder that skips a byte-order mark counts from behind it
        at = error.start + (len(raw) - len(error.object))
        line = raw.count(b"\n", 0, at) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{raw[at]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None


def _table(path: Path, rows: Iterator[tuple[int, Sequence[str]]]) -> Table:
    """A table from numbered rows of fields, the first of them the header."""
    _, header = next(rows, (0, ()))
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty: no header line. The first line names the columns.")
    columns = tuple(name.strip() for name in header)
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}: the header names a column twice: {', '.join(columns)}.")
    records = []
    for line, fields in rows:
        if len(fields) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(fields)} fields, and the header has {len(columns)} "
                f"({', '.join(columns)}). Mend that line."
            )
        records.append((f"line {line}", dict(zip(columns, fields, strict=True))))
    return Table(str(path), columns, records)


def read_tsv(path: Path) -> Table:
    """Tab-separated rows without quoting, as GLUE's: a lone quotation mark is a character.

    Lines end at LF alone (a CR before it is dropped); other Unicode line ends are text.
    """
    lines = _decode(path).split("\n")
    numbered = ((at, line.removesuffix("\r")) for at, line in enumerate(lines, 1))
    return _table(path, ((at, line.split("\t")) for at, line in numbered if line))


def read_csv(path: Path) -> Table:
    """Comma-separated rows with standard quoting (RFC 4180)."""
    stream = io.StringIO(_decode(path), newline="")
    reader = csv.reader(stream, strict=True)

    def rows() -> Iterator[tuple[int, Sequence[str]]]:
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num}: {error}. Quote fields that hold a comma, and "
                "double the quotation marks inside them; unquoted rows belong in a .tsv."
            ) from None

    return _table(path, rows())


def read_jsonl(path: Path) -> Table:
    """One JSON object per line."""
    records: list[tuple[str, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for line, text in enumerate(_decode(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: not JSON ({error}).") from None
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {line}: a JSON {type(value).__name__}, and an object was expected "
                '({"column": value, …}).'
            )
        columns |= dict.fromkeys(value)
        records.append((f"line {line}", value))
    return Table(str(path), tuple(columns), records)


def read_parquet(path: Path) -> Table:
    """A Parquet file, through pyarrow (an optional dependency)."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet needs pyarrow, which is not installed here. Run "
            "`pip install pyarrow`, or convert the file to .jsonl."
        ) from None
    try:
        table = parquet.read_table(path)
    except (ValueError, RuntimeError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise DataError(f"{path} is not a Parquet file that pyarrow reads: {error}.") from error
    records = [(f"row {at}", values) for at, values in enumerate(table.to_pylist(), 1)]
    return Table(str(path), tuple(table.column_names), records)


READERS: dict[str, Callable[[Path], Table]] = {
    ".tsv": read_tsv,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
