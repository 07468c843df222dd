"""Whether the labels of the rows that built an engine are classes of its model: `eval` needs that.

`build` reads texts alone, so that a file whose labels are other words builds an engine and stops
the evaluation after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.errors import DataError, QDeployError
from qdeploy.head import head_of

if TYPE_CHECKING:
    from qdeploy.data.rows import Rows
    from qdeploy.data.tasks import Task

_MOST = 10_000  # rows whose labels are looked at


def label_fault(engine_dir: str | Path, manifest: Mapping[str, Any]) -> str | None:
    """What `eval` would say of the labels; None where it goes on.

    Args:
        engine_dir: engine directory, just built.
        manifest: of it.

    Returns:
        A text with what to do. None too for a head that has no accuracy, rows without labels, and
        rows of the hub, which are not read a second time for this.
    """
    from qdeploy.evaluate.labels import class_order, gold_of

    if not manifest.get("data") or not head_of(Path(engine_dir), manifest).chooses:
        return None
    try:
        found = _rows(manifest)
    except QDeployError:  # eval says more of it
        return None
    if found is None:
        return None
    rows, task = found
    try:
        gold_of(rows, class_order(manifest["labels"], task))
    except DataError as error:
        return str(error)
    return None


def _rows(manifest: Mapping[str, Any]) -> tuple[Rows, Task] | None:
    """The labelled rows that `eval` would read, and their task."""
    from qdeploy.data.reading import reading_for_engine
    from qdeploy.data.rows import read_rows
    from qdeploy.data.tasks import find_task

    asked: dict[str, Any] = {"data": None, "columns": None, "max_length": None}
    reading = reading_for_engine(manifest, task="auto", stands_in=True, **asked)
    if reading.source is None or not Path(reading.source).expanduser().exists():
        return None
    rows = read_rows(reading.source, task=reading.task, columns=reading.columns, limit=_MOST)
    return None if rows.labels is None else (rows, find_task(reading.task))
