"""Rows of text and their tokens: what calibration and evaluation both read."""

from __future__ import annotations

from qdeploy.data.rows import Rows, read_rows, row_hashes, sample_rows
from qdeploy.data.tasks import TASKS, Columns, Task, find_task, parse_columns
from qdeploy.data.texts import rows_from_texts

__all__ = [
    "TASKS",
    "Columns",
    "Rows",
    "Task",
    "find_task",
    "parse_columns",
    "read_rows",
    "row_hashes",
    "rows_from_texts",
    "sample_rows",
]
