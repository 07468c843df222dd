"""Directories that are either whole or absent: written under another name, then published."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from qdeploy.errors import OutputError
from qdeploy.files.lease import ASIDE, leased_folder
from qdeploy.files.output import check_ours, check_output, output_error
from qdeploy.files.renames import exchange, rename_new
from qdeploy.machine.disk import is_full


@contextlib.contextmanager
def staged(path: Path, kind: str, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling directory that takes the name `path` when the block ends well.

    Whatever happens inside the block (an error, Ctrl-C), nothing half-written stands under `path`.
    What a killed process leaves is removed by the next one that writes into the same folder.

    Without `force` nothing is ever replaced: of several writers one wins, and so does whatever
    else appears under the name meanwhile. With it the older directory and the new one swap their
    names in one step, so that a reader finds one of them at any time.

    Args:
        path: of the directory.
        kind: of it ("model", "engine").
        force: replace one of this kind that holds only what its manifest lists.

    Raises:
        OutputError: the output exists, is not writable, or the disk is full.
    """
    place = check_output(path, kind, force=force)
    made = _made(path, place.parent)
    try:
        with contextlib.ExitStack() as stack:
            try:
                folder = leased_folder(place.parent, place.name, output=place.name)
                work = stack.enter_context(folder)
            except OSError as error:
                raise output_error(path, error) from error
            try:
                yield work
                _publish(work, path, place, kind, force=force)
            except OSError as error:
                if not _is_of(error, work, place):
                    raise
                raise output_error(path, error) from error
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _made(path: Path, parent: Path) -> list[Path]:
    """Make the parents that are missing; those that were made, the innermost first.

    Raises:
        OutputError: they cannot be made.
    """
    missing = []
    try:
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return missing


def _publish(work: Path, path: Path, place: Path, kind: str, *, force: bool) -> None:
    """Put `work` under the name `place`.

    Raises:
        OutputError: something has that name by now which may not be replaced.
        OSError: a rename failed.
    """
    try:
        rename_new(work, place)
        return
    except FileExistsError:
        if not force:
            raise OutputError(
                f"{path} appeared while this was made, and was not touched; what was made is "
                "dropped. Name another output, or pass --force."
            ) from None
    if check_output(path, kind, force=force) != place:
        raise OutputError(f"{path} became a link while this was made. Run again, or name another.")
    if not exchange(work, place):
        _move_aside(work, path, place, kind)
        return
    # What somebody wrote into the older one until now is seen here: nobody finds it any more.
    with _back_on_failure(lambda: exchange(work, place)):
        _check_old(work, path, kind)


def _move_aside(work: Path, path: Path, place: Path, kind: str) -> None:
    """Two renames, where names cannot be swapped: for a moment nothing has the name.

    Killed in between, the older directory comes back with the next `sweep`.
    """
    aside = work.with_name(work.name + ASIDE)
    place.rename(aside)
    with _back_on_failure(lambda: rename_new(aside, place)):
        _check_old(aside, path, kind)
        rename_new(work, place)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _back_on_failure(undo: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        undo()
        raise


def _check_old(old: Path, path: Path, kind: str) -> None:
    """`check_ours` of the directory that was replaced, under the name that the user knows.

    Raises:
        OutputError: it is another's, or by now a link or a file.
    """
    if old.is_symlink() or not old.is_dir():
        raise OutputError(
            f"{path} became a link or a file while this was made, and was not touched. Name "
            "another output."
        )
    if any(old.iterdir()):
        check_ours(path, old, kind)


def _is_of(error: OSError, *folders: Path) -> bool:
    """Whether an error is of writing the output: it names a file there, or none and a full disk."""
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if not names:
        if error.errno in (errno.ENOSPC, None):
            return is_full(folders[0])
        return error.errno == errno.EDQUOT
    paths = [Path(os.fsdecode(name)) for name in names]
    return any(path == folder or folder in path.parents for path in paths for folder in folders)
