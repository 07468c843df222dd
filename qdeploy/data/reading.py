"""What a command reads and how: what was asked for, what an earlier command was told, what the
columns say, in this order.

`calibrate` and `build` note the data that they were given in the model directory, and `build` in
the engine; later commands need not be told again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qdeploy.data.infer import AUTO, fits, infer
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.tasks import TASKS, Columns, find_task, generic_task, parse_columns
from qdeploy.errors import DataError
from qdeploy.files.artifact import read_json, read_manifest, write_json
from qdeploy.files.schemas import ReadingForm, check

NOTE = "statistics/data.json"  # of a model directory: what it was calibrated on last
_QNLI = "qnli"
_REMEDY = "Delete it: it only spares you to name --data again."


@dataclass(frozen=True)
class Reading:
    """Rows to read.

    Attributes:
        source: as typed after `--data`; None where nothing was named.
        task: a name of `qdeploy.data.TASKS`.
        columns: of the source; None are the task's own.
        max_length: tokens kept of a row, where a limit was asked for.
        how: where this comes from, as a clause for the reader; None where all of it was asked for.
        remembered: `source` is what an earlier command was told.
    """

    source: str | None
    task: str
    columns: Columns | None
    max_length: int | None = None
    how: str | None = None
    remembered: bool = False

    @property
    def places(self) -> Columns:
        """The columns that are read: those of the source, or the task's own."""
        return self.columns or find_task(self.task).columns

    def to_json(self) -> dict[str, Any] | None:
        """What is kept of it; None where there is no source to come back to."""
        if self.source is None:
            return None
        columns = None if self.columns is None else self.columns.to_json()
        kept = {"source": self.source, "task": self.task, "columns": columns}
        return kept | {"max_length": self.max_length}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Reading:
        """What `to_json` gave."""
        columns = None if kept["columns"] is None else Columns(**kept["columns"])
        return cls(kept["source"], kept["task"], columns, kept["max_length"], remembered=True)


def reading_for_model(
    model_dir: str | Path,
    *,
    data: str | None,
    task: str,
    columns: Columns | str | None,
    max_length: int | None,
    split: str = "calibration",
) -> Reading:
    """What `calibrate`, `build`, `analyze` and `sweep` read.

    Args:
        model_dir: model directory.
        data, task, columns, max_length: as typed; `task` may be "auto".
        split: of `qdeploy.data.read_rows`.

    Raises:
        ModelError: not a model directory.
        DataError, PlanError: see `qdeploy.data.infer.infer`.
    """
    manifest = read_manifest(Path(model_dir), "model")
    before = _noted(Path(model_dir)) if data is None else None
    if before is not None:
        _require(before, "this model was calibrated on last")
    return _settle(manifest, before, data, task, columns, max_length, split)


def reading_for_engine(
    manifest: Mapping[str, Any],
    *,
    data: str | None,
    task: str,
    columns: Columns | str | None,
    max_length: int | None,
    stands_in: bool,
) -> Reading:
    """What `eval` reads.

    Args:
        manifest: of the engine.
        data, task, columns, max_length: as typed; `task` may be "auto".
        stands_in: the embedded rows will do where no others are at hand, whatever the model is for.

    Raises:
        DataError: nothing was named, now or when the engine was built, and the embedded rows are
            not for this model; else as `qdeploy.data.infer.infer`.
    """
    kept = manifest.get("data")
    before = None if kept is None else Reading.from_json(kept)
    used = before if data is None else None
    if used is not None:
        try:
            _require(used, "this engine was built with")
        except DataError:
            if not stands_in:
                raise
            used = None
    found = _settle(manifest, used, data, task, columns, max_length, "evaluation")
    if before is not None and found.max_length is None:
        found = replace(found, max_length=before.max_length)
    if found.source is None and not stands_in and not for_embedded(found.task, manifest):
        classes = f"classes {', '.join(manifest['labels'])}"
        other = classes if found.task == _QNLI else f"task {found.task}"
        raise DataError(
            f"No --data was named, now or when this engine was built, and the embedded rows ({MINI}"
            f") are not for the {other}. Pass --data with labelled rows: a file, a directory or "
            "hub:NAME."
        )
    return found


def note_reading(model_dir: Path, reading: Reading) -> None:
    """Keep what was read for later commands; a model directory that is read-only keeps nothing."""
    kept = reading.to_json()
    if kept is None:
        return
    with contextlib.suppress(OSError):
        write_json(model_dir / NOTE, kept)


def _settle(
    manifest: Mapping[str, Any],
    before: Reading | None,
    data: str | None,
    task: str,
    columns: Columns | str | None,
    max_length: int | None,
    split: str,
) -> Reading:
    source = data if data is not None else (None if before is None else before.source)
    asked = Reading(source, task, None, max_length, remembered=data is None and source is not None)
    if before is not None and max_length is None:
        asked = replace(asked, max_length=before.max_length)
    if task != AUTO:
        known = find_task(task).name
        spelled = parse_columns(columns, known) if isinstance(columns, str) else columns
        if columns is None and before is not None and before.task == known:
            spelled = before.columns
        return replace(asked, task=known, columns=spelled)
    if isinstance(columns, Columns):
        return replace(asked, task=generic_task(columns).name, columns=columns)
    if before is not None and columns is None:
        return replace(asked, task=before.task, columns=before.columns, how="as when it was built")
    if source is None or source == MINI:
        spelled = None if columns is None else parse_columns(columns, _QNLI)
        return replace(asked, task=_QNLI, columns=spelled)
    found, places = infer(source, split, manifest["labels"], columns)
    return replace(asked, task=found.name, columns=places, how="by the names of the columns")


def _require(before: Reading, what: str) -> None:
    """Refuse to go on without a file that an earlier command was told to read.

    Raises:
        DataError: with the way out.
    """
    source = str(before.source)
    if source == MINI or source.startswith("hub:") or Path(source).expanduser().exists():
        return
    if "/" in source and not Path(source).parent.exists():  # may be a name of the hub
        return
    raise DataError(f"{source}, which {what}, is not here. Name your rows with --data.")


def for_embedded(task: str, manifest: Mapping[str, Any]) -> bool:
    """Whether the embedded rows are for a task, and for the model of a manifest."""
    return task == _QNLI and fits(TASKS[_QNLI], manifest["labels"])


def _noted(model_dir: Path) -> Reading | None:
    """What the model directory was calibrated on last.

    Raises:
        ModelError: the note is damaged.
    """
    path = model_dir / NOTE
    if not os.path.lexists(path):
        return None
    kept = read_json(path, _REMEDY)
    check(kept, ReadingForm, path, _REMEDY)
    return Reading.from_json(kept)
