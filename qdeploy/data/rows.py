"""Rows of text with their labels, from files, directories, the hub and the embedded set."""

from __future__ import annotations

import difflib
import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.data import mini
from qdeploy.data.classes import whole_number
from qdeploy.data.hub import read_hub
from qdeploy.data.readers import READERS, Table, read_table
from qdeploy.data.tasks import Columns, Task, find_task, parse_columns
from qdeploy.errors import DataError, PlanError, choose

SPLITS = ("evaluation", "calibration")
_GLUE_FILES = {"evaluation": "dev.tsv", "calibration": "train.tsv"}
_SEPARATOR = "\x1f"  # ASCII unit separator: stands in no text that somebody wrote


@dataclass(frozen=True)
class Rows:
    """Texts, or pairs of texts, with their class names.

    Attributes:
        first: the first text of each row.
        second: the second text of each row; None where the task has one text.
        labels: class name of each row, or an index as a string; None where the source has none.
        source: where they came from, for reports and error texts.
        row_ids: position of each row in its source, from 0.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    source: str
    row_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, n: int) -> Rows:
        """The first `n` rows, or all when there are fewer.

        Raises:
            DataError: `n` is below 1.
        """
        _check_count(n)
        return self.select(range(min(n, len(self))))

    def sample(self, n: int, seed: int) -> Rows:
        """A random `n` of the rows in their own order, or all when there are fewer.

        Raises:
            DataError: `n` is below 1.
        """
        _check_count(n)
        chosen = random.Random(seed).sample(range(len(self)), min(n, len(self)))
        return self.select(sorted(chosen))

    def select(self, indices: Sequence[int]) -> Rows:
        """The rows at these positions."""

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in indices)

        return Rows(
            pick(self.first),
            None if self.second is None else pick(self.second),
            None if self.labels is None else pick(self.labels),
            self.source,
            tuple(self.row_ids[i] for i in indices),
        )

    def content_hash(self) -> str:
        """sha256 of the texts in their order; labels and source do not change it."""
        digest = hashlib.sha256()
        for row in _row_digests(self):
            digest.update(row)
        return digest.hexdigest()


def row_hashes(rows: Rows) -> list[str]:
    """16 hex digits per row: the start of the sha256 of `first U+001F second`."""
    return [digest.hex()[:16] for digest in _row_digests(rows)]


def read_rows(
    source: str | Path,
    *,
    task: str = "qnli",
    columns: Columns | str | None = None,
    split: str = "evaluation",
) -> Rows:
    """Read rows of a task from any source.

    Args:
        source: a .tsv, .csv, .jsonl or .parquet file; a directory with GLUE's `dev.tsv` and
            `train.tsv`; `qnli-mini`; or a hub data set, `hub:NAME[/CONFIG]` or `glue/qnli`.
        task: a name of `TASKS`.
        columns: the file's column names, or the text of `--columns`; the task's own by default.
        split: "evaluation" (`dev.tsv`, the hub's validation) or "calibration" (`train.tsv`, train).

    Returns:
        At least one row; labels are None when the source has no label column.

    Raises:
        DataError: no such source, wrong columns, an unreadable file, no rows, a row without text.
        PlanError: unknown task or split.
    """
    known = find_task(task)
    choose("split", split, SPLITS, PlanError)
    if isinstance(columns, str):
        columns = parse_columns(columns, task)
    table = _open(source, split)
    if not table.records:
        raise DataError(f"{table.name} holds no rows. Pass a data set that has some.")
    return _judge(table, known, columns or known.columns, split)


def _open(source: str | Path, split: str) -> Table:
    """Find out what the source is, and read it."""
    name = str(source)
    if name == mini.NAME:
        return mini.read_mini(split)
    if name.startswith("hub:"):
        return read_hub(name.removeprefix("hub:"), split)
    path = Path(source).expanduser()
    if path.is_dir():
        return read_table(_glue_file(path, split))
    if path.is_file():
        return read_table(path)
    # "glue/qnli" may be a hub name; "data/qnli" beside an existing data/ is a mistyped path
    if re.fullmatch(r"[\w.-]+(/[\w.-]+){1,2}", name) and not path.parent.exists():
        return read_hub(name, split)
    raise _missing(name, path)


def _missing(name: str, path: Path) -> DataError:
    known = ""
    if path.suffix.lower() not in READERS and "/" not in name:
        near = difflib.get_close_matches(name, [mini.NAME], n=1)
        known = f" Did you mean '{mini.NAME}'?" if near else ""
        known += f" For a hub data set write hub:{name}."
    return DataError(
        f"{name} does not exist.{known} Data is a file ({', '.join(READERS)}), a directory with "
        f"GLUE's TSVs, {mini.NAME}, or hub:NAME."
    )


def _glue_file(directory: Path, split: str) -> Path:
    path = directory / _GLUE_FILES[split]
    if path.is_file():
        return path
    held = ", ".join(sorted(p.name for p in directory.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{directory} has no {path.name}, which holds a GLUE directory's {split} rows; it holds "
        f"{held}. Name the file itself."
    )


def _judge(table: Table, task: Task, columns: Columns, split: str) -> Rows:
    """Rows from the records, or an error that names the column or the place at fault."""
    wanted = [columns.first, *([columns.second] if columns.second is not None else [])]
    if columns.label_required:
        wanted.append(columns.label)
    for column in wanted:
        if column not in table.columns:
            raise _wrong_column(table, task, column)

    def texts(column: str) -> tuple[str, ...]:
        return tuple(_text(table, place, row, column) for place, row in table.records)

    return Rows(
        first=texts(columns.first),
        second=None if columns.second is None else texts(columns.second),
        labels=_labels(table, task, columns, split),
        source=table.name,
        row_ids=tuple(range(len(table.records))),
    )


def _wrong_column(table: Table, task: Task, column: str) -> DataError:
    own = [name for name in (task.first, task.second, "label") if name is not None]
    return DataError(
        f"{table.name} has no column '{column}'; it has: {', '.join(table.columns)}. Task "
        f"{task.name} needs {', '.join(own)}: map them with --columns "
        f"{','.join(f'{name}=COLUMN' for name in own)}."
    )


def _text(table: Table, place: str, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        if value.isascii() or value == value.encode("utf-8", "ignore").decode():
            return value
        fact = "holds half of a surrogate pair"
    else:
        fact = "holds no text" if value is None or value == "" else f"is {value!r:.40}"
    raise DataError(
        f"{table.name}, {place}: column '{column}' {fact}, and text was expected. Mend or drop "
        "that row."
    )


def _labels(table: Table, task: Task, columns: Columns, split: str) -> tuple[str, ...] | None:
    """Class names; None without labels. Calibration takes rows of which some have none, too."""
    column = columns.label
    if column not in table.columns:
        return None
    labels = [_label(row.get(column), task) for _, row in table.records]
    found = tuple(label for label in labels if label is not None)
    if len(found) == len(labels):
        return found
    if split == "calibration" or not (found or columns.label_required):
        return None
    place = table.records[labels.index(None)][0]
    raise DataError(
        f"{table.name}, {place}: column '{column}' holds no class. Use a labelled split, or drop "
        "that row."
    )


def _label(value: Any, task: Task) -> str | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    text = "" if value is None else str(value).strip()
    if isinstance(value, bool):
        text = text.lower()
    number = {"false": 0, "true": 1}.get(text.lower(), whole_number(text))
    if not text or number == -1:  # GLUE's test split and the hub mark missing labels with -1
        return None
    if task.names_integers and number is not None and 0 <= number < len(task.classes):
        return task.classes[number]
    return text if number is None or not isinstance(value, float) else str(number)


def _check_count(n: int) -> None:
    if n < 1:
        raise DataError(f"{n} rows were asked for, and at least 1 is needed.")


def _row_digests(rows: Rows) -> list[bytes]:
    second = rows.second or ("",) * len(rows)
    return [
        hashlib.sha256(f"{a}{_SEPARATOR}{b}".encode()).digest()
        for a, b in zip(rows.first, second, strict=True)
    ]
