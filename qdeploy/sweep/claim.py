"""A sweep's folder: one model, one run at a time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from qdeploy.errors import OutputError
from qdeploy.files.artifact import MANIFEST, write_json
from qdeploy.files.lease import Holder, Lease, holder_of, sweep, take
from qdeploy.machine.faults import explain, named
from qdeploy.sweep.stored import MODEL, OWN, STATISTICS, TRIALS, read_object

SCHEMA = 1
LOCK = "running.lease"
_OF_BEFORE = "running.pid"  # the lock of earlier versions, which said a process number alone
_OURS = {*OWN, MANIFEST, LOCK, _OF_BEFORE}
# Names of what is written and not yet whole (`artifact.write_bytes`, `lease.leased_folder`), and of
# earlier versions' statistics; any other hidden file is somebody else's.
_PARTIAL = re.compile(rf"\..*\.[0-9a-f]{{12}}\.partial|\.{re.escape(STATISTICS)}\.partial")
_ENDING_S = 10.0  # what the trial of a killed sweep may take to end


@contextlib.contextmanager
def claimed(folder: Path, model: str | Path) -> Iterator[Lease]:
    """Make a sweep's folder or take one up, for this process alone.

    Its manifest is written anew where it was cut: what it says is known from the command.

    Args:
        folder: of the sweep.
        model: as the user names it; a folder holds trials of one.

    Returns:
        The lease of the folder.

    Raises:
        OutputError: it holds something else or another model's sweep, another process works in it,
            or it cannot be written.
    """
    _check(folder, model)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = _take(folder / LOCK, folder)
    except OSError as error:
        raise explain(_blamed(error, folder), cls=OutputError) from error
    try:
        try:
            _clear(folder)
            write_json(folder / MANIFEST, {"schema": SCHEMA, "kind": "sweep", "model": str(model)})
            (folder / TRIALS).mkdir(exist_ok=True)
        except OSError as error:
            raise explain(_blamed(error, folder), cls=OutputError) from error
        yield lease
    except BaseException:
        if new:
            _remove_empty(folder)
        raise
    finally:
        lease.release()


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a sweep that ended before it kept anything."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {MANIFEST, TRIALS, LOCK}:
            (folder / TRIALS).rmdir()
            for name in (MANIFEST, LOCK):
                (folder / name).unlink()
            folder.rmdir()


def _blamed(error: OSError, folder: Path) -> OSError:
    return error if error.filename is not None else named(error, folder)


def _check(folder: Path, model: str | Path) -> None:
    """Refuse a folder of something else, or of another model.

    Raises:
        OutputError: with what to do next.
    """
    try:
        if not os.path.lexists(folder):
            return
        foreign = not folder.is_dir() or _is_foreign(folder)
    except OSError as error:
        raise explain(error, cls=OutputError) from error
    if foreign:
        raise OutputError(f"{folder} is no folder of a sweep. Name a new one, or that of a sweep.")
    known = _model_of(folder)
    if known is not None and known != str(model):
        raise OutputError(
            f"{folder} holds the sweep of {known}, not of {model}. Name a new folder, or the model "
            "as it was named then."
        )


def _is_foreign(folder: Path) -> bool:
    """Whether a folder holds something that is no sweep's.

    A manifest of a sweep settles it. One that was cut leaves the rest to tell: trials, or nothing
    but what a sweep makes. Without any, only the lock of a run may be there that was killed before.
    """
    found = read_object(folder / MANIFEST)
    if found is not None and "kind" in found:
        return found["kind"] != "sweep"
    names = {path.name for path in folder.iterdir() if not _PARTIAL.fullmatch(path.name)}
    if MANIFEST in names:
        return TRIALS not in names and not names <= _OURS
    return not names <= {LOCK, _OF_BEFORE}


def _model_of(folder: Path) -> str | None:
    """The model whose sweep a folder holds, where it says so."""
    model = (read_object(folder / MANIFEST) or {}).get("model")
    if isinstance(model, str):
        return model
    exported = read_object(folder / MODEL / MANIFEST) or {}
    source = exported.get("source")
    named = (source.get("path") or source.get("id")) if isinstance(source, dict) else None
    return named if isinstance(named, str) else None


def _take(lock: Path, folder: Path) -> Lease:
    """The lease of a folder; the trial of a killed sweep, which holds it too, is waited for.

    Raises:
        OutputError: another sweep works there.
    """
    deadline = time.monotonic() + _ENDING_S
    while (lease := take(lock)) is None:
        holder = holder_of(lock)
        if not _is_gone(holder) or time.monotonic() > deadline:
            raise OutputError(
                f"Another sweep works in {folder} ({holder or 'it does not say who'}). Wait for "
                "it: two at once would disturb each other's latencies."
            )
        time.sleep(0.1)
    return lease


def _is_gone(holder: Holder | None) -> bool:
    """Whether the sweep itself is known to have ended here, so that only its trial is left."""
    if holder is None:
        return True  # it writes its name this moment, or was killed before
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return holder.is_here()
    except OSError:
        return False
    return False


def _clear(folder: Path) -> None:
    """Remove what earlier runs left; nobody else works here."""
    (folder / _OF_BEFORE).unlink(missing_ok=True)
    for place in (folder, folder / TRIALS, *(folder / TRIALS).glob("*")):
        sweep(place)
    for pattern in (".*.partial", f"{TRIALS}/.*.partial", f"{TRIALS}/*/.*.partial"):
        for path in folder.glob(pattern):
            if not _PARTIAL.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
