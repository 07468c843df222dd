"""Rows back into a file, under a task's own column names."""

from __future__ import annotations

import json
from pathlib import Path

from qdeploy.data.gold_answers import flat_of
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import ANSWERS, Task
from qdeploy.data.tokens import BETWEEN, items_of
from qdeploy.files.artifact import write_bytes


def write_rows(rows: Rows, task: Task, path: Path) -> None:
    """Write .jsonl that `read_rows(path, task=task.name)` reads as the same texts and labels.

    The file appears whole or not at all.
    """
    lines = []
    for at in range(len(rows)):
        record: dict[str, object] = {task.first: rows.first[at]}
        if task.second is not None and rows.second is not None:
            record[task.second] = rows.second[at]
        if rows.labels is not None:
            label = rows.labels[at]
            record[task.label] = _value(label, task)
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_bytes(path, "".join(lines).encode())


def _value(label: str, task: Task) -> object:
    """A label as its file has it: gold answers and several classes as lists."""
    if task.label == ANSWERS:
        return flat_of(label)
    return items_of(label) if BETWEEN in label or not label else label
