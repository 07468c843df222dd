"""Rows of text with their labels, from files, directories, the hub and the embedded set."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qdeploy.data.check_rows import CheckedRows, Row
from qdeploy.data.sources import SPLITS, open_source
from qdeploy.data.tasks import Columns, find_task, parse_columns
from qdeploy.errors import DataError, PlanError, choose

_SEPARATOR = "\x1f"  # ASCII unit separator: stands in no text that somebody wrote
_HASH = 16  # hex digits of a row's hash


@dataclass(frozen=True)
class Rows:
    """Texts, or pairs of texts, with their class names.

    Attributes:
        first: the first text of each row.
        second: the second text of each row; None where the task has one text.
        labels: class name of each row, or an index as a string; of several classes, and of tags,
            they are joined (`qdeploy.data.tokens`). None where the source has none.
        source: where they came from, for reports and error texts.
        row_ids: position of each row in its source, from 0.
        numbered: labels of the source that are numbers, or true and false, with the class of the
            task that each was read as; empty where `labels` are as in the source.
        blank: the label column, where the source has one and no row has a class in it.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    source: str
    row_ids: tuple[int, ...]
    numbered: tuple[tuple[str, str], ...] = ()
    blank: str | None = None

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

        return replace(
            self,
            first=pick(self.first),
            second=None if self.second is None else pick(self.second),
            labels=None if self.labels is None else pick(self.labels),
            row_ids=tuple(self.row_ids[i] for i in indices),
        )

    def singles(self) -> Rows:
        """Every text as a row of its own, those of a pair one behind the other, without labels."""
        if self.second is None:
            return replace(self, labels=None)
        texts = [text for pair in zip(self.first, self.second, strict=True) for text in pair]
        ids = tuple(row_id for row_id in self.row_ids for _ in range(2))
        return replace(self, first=tuple(texts), second=None, labels=None, row_ids=ids)

    def without_labels(self) -> str:
        """Why `labels` is None, as a clause."""
        if self.blank is None:
            return f"{self.source} has no labels"
        return f"{self.source} has no labels (its column '{self.blank}' holds -1 or nothing)"

    def content_hash(self) -> str:
        """sha256 of the texts in their order; labels and source do not change it."""
        digest = hashlib.sha256()
        for row in _row_digests(self):
            digest.update(row)
        return digest.hexdigest()


def row_hashes(rows: Rows) -> list[str]:
    """16 hex digits per row: the start of the sha256 of `first U+001F second`."""
    return [digest.hex()[:_HASH] for digest in _row_digests(rows)]


def read_rows(
    source: str | Path,
    *,
    task: str = "qnli",
    columns: Columns | str | None = None,
    split: str = "evaluation",
    limit: int | None = None,
) -> Rows:
    """Read rows of a task from any source.

    Args:
        source: a .tsv, .csv, .jsonl or .parquet file; a directory with GLUE's `dev.tsv` and
            `train.tsv`; `qnli-mini`; or a hub data set, `hub:NAME[/CONFIG]` or `glue/qnli`.
        task: a name of `TASKS`.
        columns: the file's column names, or the text of `--columns`; the task's own by default.
        split: "evaluation" (`dev.tsv`, the hub's validation) or "calibration" (`train.tsv`, train).
        limit: the first rows only; what is behind them is neither read nor judged.

    Returns:
        At least one row; labels are None when the source has no label column.

    Raises:
        DataError: no such source, wrong columns, an unreadable file, no rows, a row without text,
            `limit` below 1.
        PlanError: unknown task or split.
    """
    if limit is not None:
        _check_count(limit)
    checked = _checked(source, task, columns, split)
    found = _Columns()
    for at, row in enumerate(checked.rows(limit)):
        found.add(at, row)
    return found.rows(checked, labelled=checked.labelled())


def sample_rows(
    source: str | Path,
    n: int,
    seed: int,
    *,
    task: str = "qnli",
    columns: Columns | str | None = None,
    split: str = "calibration",
    without: Collection[str] = (),
) -> Rows:
    """A random `n` of the rows, those of `read_rows(…).sample(n, seed)`, in memory of only these.

    The source is read twice: all of it is judged and counted, then the chosen rows are kept.

    Args:
        n, seed: of the sample; all rows where there are fewer.
        source, task, columns, split: of `read_rows`.
        without: `row_hashes` of rows that are left out beforehand.

    Returns:
        No rows where `without` names all.

    Raises:
        DataError: see `read_rows`; a file that changed meanwhile; `n` is below 1.
        PlanError: unknown task or split.
    """
    _check_count(n)
    checked = _checked(source, task, columns, split)
    count, gone = 0, []
    for at, row in enumerate(checked.rows()):
        count += 1
        if without and _digest(row.first, row.second or "").hex()[:_HASH] in without:
            gone.append(at)
    labelled, left = checked.labelled(), count - len(gone)
    chosen = sorted(random.Random(seed).sample(range(left), min(n, left)))
    found = _Columns()
    for at, row in checked.chosen(set(_behind(gone, chosen))):
        found.add(at, row)
    return found.rows(checked, labelled=labelled)


def _behind(gone: Sequence[int], chosen: Sequence[int]) -> Iterator[int]:
    """Positions of the chosen among all rows, where `gone` were not counted; both in order.

    >>> list(_behind([0, 3], [0, 1, 2]))
    [1, 2, 4]
    """
    before = 0
    for at in chosen:
        while before < len(gone) and gone[before] <= at + before:
            before += 1
        yield at + before


@dataclass(frozen=True)
class _Columns:
    """Rows as they come in."""

    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def add(self, at: int, row: Row) -> None:
        self.first.append(row.first)
        self.second.append(row.second or "")
        self.labels.append(row.label or "")
        self.ids.append(at)

    def rows(self, checked: CheckedRows, *, labelled: bool) -> Rows:
        return Rows(
            first=tuple(self.first),
            second=tuple(self.second) if checked.pairs else None,
            labels=tuple(self.labels) if labelled else None,
            source=checked.source,
            row_ids=tuple(self.ids),
            numbered=checked.numbered,
            blank=checked.blank,
        )


def _checked(
    source: str | Path, task: str, columns: Columns | str | None, split: str
) -> CheckedRows:
    """The source, opened, with what is wanted of it."""
    known = find_task(task)
    choose("split", split, SPLITS, PlanError)
    if isinstance(columns, str):
        columns = parse_columns(columns, task)
    table = open_source(source, split)
    return CheckedRows(table, known, columns or known.columns_in(table.columns or ()), split)


def _check_count(n: int) -> None:
    if n < 1:
        raise DataError(f"{n} rows were asked for, and at least 1 is needed.")


def _row_digests(rows: Rows) -> list[bytes]:
    second = rows.second or ("",) * len(rows)
    return [_digest(a, b) for a, b in zip(rows.first, second, strict=True)]


def _digest(first: str, second: str) -> bytes:
    return hashlib.sha256(f"{first}{_SEPARATOR}{second}".encode()).digest()
