"""The rows of an evaluation: none of them calibrated the engine, unless they were asked for."""

from __future__ import annotations

from dataclasses import replace

from qdeploy.data.mini import NAME as MINI
from qdeploy.data.reading import Reading, same_source
from qdeploy.data.rows import Rows, read_rows, row_hashes
from qdeploy.evaluate.loaded_engine import LoadedEngine


def evaluation_rows(
    reading: Reading, subject: LoadedEngine, limit: int | None, *, accuracy: bool
) -> tuple[Rows, int]:
    """The rows asked for, those of the source that the engine remembers, or the embedded ones.

    Of the source that the engine was built with, the rows that calibrated it are left out, unless
    it has no others. Embedded rows that stand in for others have no labels.

    Args:
        reading: what to read.
        subject: the engine.
        limit: the first rows only.
        accuracy: whether the accuracy is measured.

    Returns:
        The rows, and how many were left out.

    Raises:
        DataError: they cannot be read.
    """
    if reading.source is None or not accuracy:
        rows = read_rows(reading.source or MINI, task=reading.task, columns=reading.columns,
                         limit=limit)  # fmt: skip
        if reading.stands_in:
            rows = replace(rows, labels=None)
        return rows, 0
    built_with = subject.manifest.get("data")
    same = same_source(reading.source, built_with["source"] if built_with else None)
    return unseen_rows(reading, subject.calibration_hashes if same else frozenset(), limit)


def unseen_rows(reading: Reading, seen: frozenset[str], limit: int | None) -> tuple[Rows, int]:
    """The rows of a source without those that calibrated; all of them where it has no others.

    Args:
        reading: what to read.
        seen: `row_hashes` of the rows that calibrated.
        limit: the first of the others only.

    Returns:
        The rows, and how many were left out.

    Raises:
        DataError: they cannot be read.
    """
    most = None if limit is None else limit + len(seen)
    rows = read_rows(reading.source or MINI, task=reading.task, columns=reading.columns, limit=most)
    others = [at for at, name in enumerate(row_hashes(rows)) if name not in seen] if seen else []
    left_out = len(rows) - len(others) if others else 0
    if left_out:
        rows = rows.select(others)
    return (rows if limit is None else rows.take(limit)), left_out
