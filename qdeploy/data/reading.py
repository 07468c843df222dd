"""What a command reads and how: what was asked for, what an earlier command was told, what the
columns say, in this order.

`calibrate` and `build` note the data that they were given in the model directory, and `build` in
the engine; later commands need not be told again.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qdeploy.data.embedded import QNLI, for_embedded, refuse_embedded
from qdeploy.data.infer import AUTO, columns_of, infer, published_columns
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.notice import say, say_read, warn_of_unread
from qdeploy.data.readers import Table
from qdeploy.data.sources import (
    HUB,
    canonical,
    fingerprint,
    is_hub_name,
    local_path,
    open_source,
    spelled_here,
)
from qdeploy.data.tasks import Columns, find_task, generic_task, parse_columns
from qdeploy.data.values import peek
from qdeploy.errors import DataError, QDeployWarning
from qdeploy.files.artifact import read_json, read_manifest, write_json
from qdeploy.schemas.checked import check
from qdeploy.schemas.manifest import EngineFields, Interface
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import PathLike

NOTE = "statistics/data.json"  # of a model directory: what it was calibrated on last
_REMEDY = "Delete it: it only spares you to name --data again."


@dataclass(frozen=True)
class Reading:
    """Rows to read.

    Attributes:
        source: as typed after `--data`, or as it would be here; None where nothing was named.
        task: a name of `qdeploy.data.TASKS`.
        columns: of the source; None are the task's own.
        max_length: tokens kept of a row, where a limit was asked for.
        how: where this comes from, as a clause for the reader; None where all of it was asked for.
        remembered: `source` is what an earlier command was told.
        fingerprint: of what it held then (`qdeploy.data.sources.fingerprint`); None where unknown.
        stands_in: nothing was named, and the embedded rows are not known to be of the model's task:
            their classes are not the model's.
    """

    source: str | None
    task: str
    columns: Columns | None
    max_length: int | None = None
    how: str | None = None
    remembered: bool = False
    fingerprint: str | None = None
    stands_in: bool = False

    @property
    def places(self) -> Columns:
        """The columns that are read: those of the source, or the task's own."""
        return self.columns or find_task(self.task).columns

    def to_json(self) -> ReadingFields | None:
        """What is kept of it; None where there is no source to come back to.

        A file has its absolute path, so that from another directory it is the same one.
        """
        if self.source is None:
            return None
        return {
            "source": canonical(self.source),
            "task": self.task,
            "columns": None if self.columns is None else self.columns.to_json(),
            "max_length": self.max_length,
            "fingerprint": fingerprint(self.source),
        }

    @classmethod
    def from_json(cls, kept: ReadingFields) -> Reading:
        """What `to_json` gave."""
        named = kept.get("columns")
        return cls(
            spelled_here(kept["source"]),
            kept["task"],
            None if named is None else Columns.from_json(named),
            kept.get("max_length"),
            remembered=True,
            fingerprint=kept.get("fingerprint"),
        )


def reading_for_model(
    model_dir: str | Path,
    *,
    data: PathLike | None,
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
    typed = None if data is None else str(data)
    return _settle(manifest, before, typed, task, columns, max_length, split)


def reading_for_engine(
    manifest: EngineFields,
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
    if not found.stands_in:
        return found
    if not stands_in:
        refuse_embedded(found.task, manifest["labels"], "now or when this engine was built")
    say(f"{MINI}: these rows stand in for yours, which --data names.")
    return found


def note_reading(model_dir: Path, reading: Reading) -> None:
    """Keep what was read for later commands; a model directory that is read-only keeps nothing."""
    kept = reading.to_json()
    if kept is None:
        return
    with contextlib.suppress(OSError):
        write_json(model_dir / NOTE, kept)


def _settle(
    manifest: Interface,
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
    if source is None or source == MINI:
        return _embedded(asked, columns, manifest["labels"])
    table = open_source(source, split)
    found = _of_table(asked, before, table, columns, manifest["labels"])
    # a source that does not list its columns is asked for those of its first rows
    known = columns_of(table, () if table.columns is not None else peek(table, ()))
    say_read(table.name, known, find_task(found.task), found.places)
    return found


def _embedded(asked: Reading, columns: Columns | str | None, labels: Sequence[str]) -> Reading:
    """Of the embedded rows, which were named or are to stand in for others."""
    if asked.task == AUTO and isinstance(columns, Columns):
        task = generic_task(columns).name
    else:
        task = QNLI if asked.task == AUTO else find_task(asked.task).name
    spelled = parse_columns(columns, task) if isinstance(columns, str) else columns
    named = asked.source is not None or asked.task != AUTO
    stands_in = asked.source is None and not for_embedded(task, labels, named=named)
    return replace(asked, task=task, columns=spelled, stands_in=stands_in)


def _of_table(
    asked: Reading,
    before: Reading | None,
    table: Table,
    columns: Columns | str | None,
    labels: Sequence[str],
) -> Reading:
    """Task and columns: those asked for, those of before, or those that the table says."""
    if asked.task != AUTO:
        known = find_task(asked.task)
        spelled = parse_columns(columns, known.name) if isinstance(columns, str) else columns
        if columns is None and before is not None and before.task == known.name:
            spelled = before.columns
        elif columns is None:
            spelled = published_columns(known, table)
        return replace(asked, task=known.name, columns=spelled)
    if isinstance(columns, Columns):
        return replace(asked, task=generic_task(columns).name, columns=columns)
    if before is not None and columns is None:
        return replace(asked, task=before.task, columns=before.columns, how="as when it was built")
    found = infer(table, labels, columns)
    how = "by the names of the columns"
    if found.by_values:
        how = "by the names of the columns, the label by its values"
        say(f"{table.name}: '{found.columns.label}' is taken for the label, because of its values.")
    text = found.columns.first
    label = f",{'='.join(found.columns.spelled_label)}" if found.labelled else ""
    warn_of_unread(
        table.name,
        text,
        found.others,
        single=f"--columns text={text}{label}",
        pair=lambda second: f"--columns text={text},text_pair={second}{label}",
    )
    return replace(asked, task=found.task.name, columns=found.columns, how=how)


def _require(before: Reading, what: str) -> None:
    """Refuse to go on without a file that an earlier command was told to read; warn of one that is
    not as it was.

    Raises:
        DataError: with the way out.
    """
    source = str(before.source)
    if source == MINI or source.startswith(HUB):
        return
    if os.path.lexists(local_path(source)):
        if before.fingerprint not in (None, fingerprint(source)):
            warnings.warn(
                f"{source}, which {what}, has changed since. It is read as it is now.",
                QDeployWarning,
                stacklevel=4,
            )
        return
    # notes of earlier versions have names of the hub without their hub:
    if before.fingerprint is None and is_hub_name(source):
        return
    raise DataError(f"{source}, which {what}, is not here. Name your rows with --data.")


def same_source(one: str | None, other: str | None) -> bool:
    """Whether two names are of one source."""
    return one is not None and other is not None and canonical(one) == canonical(other)


def _noted(model_dir: Path) -> Reading | None:
    """What the model directory was calibrated on last.

    Raises:
        ModelError: the note is damaged.
    """
    path = model_dir / NOTE
    if not os.path.lexists(path):
        return None
    kept = read_json(path, _REMEDY)
    check(kept, ReadingFields, path, _REMEDY)
    return Reading.from_json(kept)
