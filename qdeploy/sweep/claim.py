"""A sweep's folder: one model, one run at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from qdeploy.artifact import MANIFEST, read_json, write_json
from qdeploy.errors import OutputError
from qdeploy.publish import alive

SCHEMA = 1
LOCK = "running.pid"


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
        lock = folder / LOCK
        _take(lock, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


def _take(lock: Path, folder: Path) -> None:
    """Write this process into the lock; one that its process left behind is taken over."""
    try:
        with lock.open("x") as stream:
            stream.write(str(os.getpid()))
    except FileExistsError:
        held = lock.read_text()
        if held.isdigit() and alive(int(held)):
            raise OutputError(
                f"Process {held} works in {folder}. Wait for it: two at once would disturb each "
                "other's latencies."
            ) from None
        lock.write_text(str(os.getpid()))
