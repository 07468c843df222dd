"""Answers as lines of text: JSONL, or CSV with the columns of the first record."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

from qdeploy.errors import DataError
from qdeploy.text import json_text

JSONL, CSV = "jsonl", "csv"
OUTPUT_FORMATS = (JSONL, CSV)


class Lines:
    """Records as lines of text, JSONL or CSV; the columns of CSV are those of the first record.

    Args:
        form: of `OUTPUT_FORMATS`.
        ascii_only: escape what is no ASCII, which JSON can.
    """

    def __init__(self, form: str, ascii_only: bool = False) -> None:
        self._csv, self._ascii = form == CSV, ascii_only
        self._columns: tuple[str, ...] | None = None

    def header(self, names: Sequence[str]) -> str:
        """What stands above no lines at all: the columns of CSV; nothing of JSONL."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(names)
        return text.getvalue() if self._csv else ""

    def of(self, records: Sequence[Mapping[str, object]]) -> str:
        """The lines of records.

        Raises:
            DataError: a record has a column that the first has not, which CSV cannot hold.
        """
        if not self._csv:
            return "".join(f"{self._json(record)}\n" for record in records)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for record in records:
            if self._columns is None:
                self._columns = tuple(record)
                writer.writerow(self._columns)
            if strange := [name for name in record if name not in self._columns]:
                raise DataError(
                    f"column '{strange[0]}' is not in the first row, and CSV has the "
                    "columns of the first row. Name the columns with --keep, or pass "
                    "--output-format jsonl."
                )
            writer.writerow([self._cell(record.get(name)) for name in self._columns])
        return text.getvalue()

    def _json(self, value: object) -> str:
        return json_text(json.dumps(value, ensure_ascii=self._ascii, default=str))

    def _cell(self, value: object) -> object:
        """A value of CSV; what has parts is JSON."""
        return self._json(value) if isinstance(value, list | dict) else value


def free_name(name: str, fields: set[str]) -> str:
    """The name of a column that is kept: another one where an answer's field has it."""
    return f"input_{name}" if name in fields else name


def plain_value(value: object) -> object:
    """A value that JSON has: no NaN, no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    return value
