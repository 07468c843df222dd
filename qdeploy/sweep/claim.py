"""A sweep's folder: one model, one run at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qdeploy.artifact import MANIFEST, read_json, write_json
from qdeploy.errors import OutputError
from qdeploy.lease import Lease, holder_of, take

SCHEMA = 1
LOCK = "running.lease"


@contextlib.contextmanager
def claimed(folder: Path, model: str | Path) -> Iterator[None]:
    """Make a sweep's folder or take one up, for this process alone.

    Args:
        folder: of the sweep.
        model: as the user names it; a folder holds trials of one.

    Raises:
        OutputError: it holds something else or another model's sweep, another process works in it,
            or it cannot be written.
    """
    manifest = folder / MANIFEST
    known = read_json(manifest) if manifest.is_file() else {}
    if folder.exists() and known.get("kind") != "sweep" and _holds_something(folder):
        raise OutputError(f"{folder} is no folder of a sweep. Name a new one, or that of a sweep.")
    if known and known["model"] != str(model):
        raise OutputError(
            f"{folder} holds the sweep of {known['model']}, not of {model}. Name a new folder, or "
            "the model as it was named then."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(manifest, {"schema": SCHEMA, "kind": "sweep", "model": str(model)})
        (folder / "trials").mkdir(exist_ok=True)
        lease = _take(folder / LOCK, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lease.release()


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


def _take(lock: Path, folder: Path) -> Lease:
    lease = take(lock)
    if lease is None:
        raise OutputError(
            f"Another sweep works in {folder} ({holder_of(lock) or 'it does not say who'}). Wait "
            "for it: two at once would disturb each other's latencies."
        )
    return lease
