"""Whether the labels of the rows that built an engine are classes of its model: `eval` needs that.

`build` reads texts alone, so that a file whose labels are other words builds an engine and stops
the evaluation after it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.errors import DataError, QDeployError, QDeployWarning
from qdeploy.head import MULTI_LABEL, head_of
from qdeploy.schemas.manifest import EngineFields

if TYPE_CHECKING:
    from qdeploy.data.reading import Reading

_MOST = 10_000  # rows whose labels are looked at


def label_fault(engine_dir: str | Path, manifest: EngineFields) -> str | None:
    """What `eval` would say of the labels; None where it goes on.

    Args:
        engine_dir: engine directory, just built.
        manifest: of it.

    Returns:
        A text with what to do. None too for a head that has no classes, rows without labels, and
        rows of the hub, which are not read a second time for this. Labels that are read as
        classes, but leave some without a row, are warned of.
    """
    from qdeploy.data.rows import read_rows
    from qdeploy.data.tasks import find_task
    from qdeploy.evaluate.label_sets import label_sets
    from qdeploy.evaluate.labels import absent_text, class_order, gold_of

    head = head_of(Path(engine_dir), manifest)
    multilabel = head.problem_type == MULTI_LABEL
    if not manifest.get("data") or not (head.chooses or multilabel):
        return None
    try:
        reading = _reading(manifest)
    except QDeployError:  # eval says more of it
        return None
    if reading is None:
        return None
    try:
        source = str(reading.source)
        rows = read_rows(source, task=reading.task, columns=reading.columns, limit=_MOST)
        if rows.labels is None:
            return None
        if multilabel:
            label_sets(rows, head.labels, reading.places)
            return None
        order = class_order(manifest["labels"], find_task(reading.task))
        gold = gold_of(rows, order)
    except DataError as error:  # blank labels among others too
        return str(error)
    if (doubt := absent_text(gold.indices, gold.form, order)) is not None:
        warnings.warn(f"{rows.source}: {doubt}", QDeployWarning, stacklevel=3)
    return None


def _reading(manifest: EngineFields) -> Reading | None:
    """What `eval` would read; None where that is no file."""
    from qdeploy.data.reading import reading_for_engine

    reading = reading_for_engine(
        manifest, data=None, task="auto", columns=None, max_length=None, stands_in=True
    )
    if reading.source is None or not Path(reading.source).expanduser().exists():
        return None
    return reading
