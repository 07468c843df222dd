"""Directories that are either whole or absent: written under another name, then published."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qdeploy.errors import ModelError, OutputError
from qdeploy.files.artifact import MANIFEST, read_json
from qdeploy.files.lease import ASIDE, leased_folder, sweep
from qdeploy.files.renames import exchange, rename_new
from qdeploy.machine.faults import is_full
from qdeploy.text import is_utf8

# What qdeploy writes into a finished directory later on, by kind.
_LATER = {
    "model": re.compile(r"statistics/([0-9a-f]{20}\.npz|data\.json)"),
    "engine": re.compile(r"__pycache__/predict\.[\w.-]+\.pyc"),  # of importing its predict.py
}
_NAMED = 3  # foreign files that an error names


def check_output(path: Path, kind: str, *, force: bool) -> Path:
    """Refuse an output that exists, or that `--force` would not replace.

    Args:
        path: as the user names it.
        kind: of the directory that is written: "model", "engine" or "demo".
        force: replace one of this kind that qdeploy wrote, and that holds nothing else.

    Returns:
        The absolute path; of a link to a directory that directory's, so that the link stays.

    Raises:
        OutputError: with what to do next.
    """
    if not is_utf8(path):
        raise OutputError(f"{path} is no UTF-8: no runtime would open it. Name another output.")
    place = _place(path)
    sweep(place.parent)
    if not os.path.lexists(place):
        return place
    if not force:
        raise OutputError(f"{path} already exists. Pass --force to replace it, or name another.")
    if not place.is_dir():
        raise OutputError(f"{path} is a file; the output is a directory. Name another.")
    if any(place.iterdir()):
        _check_ours(path, place, kind)
    return place


def _place(path: Path) -> Path:
    """Where an output really stands.

    Raises:
        OutputError: a link that leads nowhere, or a working directory that was removed.
    """
    try:
        whole = path if path.is_absolute() else Path.cwd() / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            whole.parent.stat()  # a loop of links is an error now
        if whole.name == "..":
            return Path(os.path.realpath(whole))
        # not os.path.abspath: behind a link to a directory, `..` is that directory's parent
        place = Path(os.path.realpath(whole.parent), whole.name)
        return place.resolve(strict=True) if place.is_symlink() else place
    except FileNotFoundError as error:
        if os.path.lexists(path):
            raise OutputError(
                f"{path} is a link to something that does not exist. Remove the link, or name "
                "another output."
            ) from error
        raise OutputError(
            f"{path} cannot be placed: the working directory was removed. Change to one that "
            "exists, or give a full path."
        ) from error
    except (OSError, RuntimeError) as error:  # Python before 3.13 raises RuntimeError for a loop
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise _output_error(path, error) from error
        raise OutputError(
            f"{path} is a link that leads to itself. Remove it, or name another output."
        ) from error


def _check_ours(path: Path, place: Path, kind: str) -> None:
    """Refuse to replace a directory of another kind, or one that holds a file of somebody else.

    Raises:
        OutputError: naming the files.
    """
    if not (place / MANIFEST).is_file():
        raise OutputError(
            f"{path} holds files that qdeploy did not write; --force will not replace it. "
            "Name another output."
        )
    try:
        manifest = read_json(place / MANIFEST)
    except ModelError:
        manifest = None
    found = manifest.get("kind") if isinstance(manifest, dict) else None
    files = manifest.get("files", {}) if isinstance(manifest, dict) else None
    if not isinstance(found, str) or not isinstance(files, dict):
        raise OutputError(
            f"{path / MANIFEST} does not say what is in {path}, so that --force will not replace "
            "it. Look into it, remove it yourself, or name another output."
        )
    if found != kind:
        raise OutputError(
            f"{path} is a directory of kind '{found}', and --force replaces here only one of kind "
            f"'{kind}'. Name another output."
        )
    if kind == "model":
        sweep(place / "statistics")
    if kind != "demo" and (foreign := _foreign(place, kind, {MANIFEST, *files})):
        named = ", ".join(foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise OutputError(
            f"{path} holds what qdeploy did not write ({named}{more}); --force will not remove it. "
            "Move it elsewhere, or name another output."
        )


def _foreign(directory: Path, kind: str, listed: set[str]) -> list[str]:
    """Files, links and whatever else is not listed, by their names within the directory."""
    found = []
    for root, folders, files in os.walk(directory, onerror=_raise):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted(files + links):
            inside = Path(root, name).relative_to(directory).as_posix()
            later = _LATER.get(kind)
            if inside not in listed and not (later is not None and later.fullmatch(inside)):
                found.append(inside)
    return found


def _raise(error: OSError) -> None:
    raise error


def check_apart(output: Path, sources: Sequence[Path]) -> None:
    """Refuse an output that is, holds, or lies inside what is read; files that do not exist pass.

    Raises:
        OutputError: naming both.
    """
    written = Path(os.path.realpath(output))
    for source in (path for path in sources if path.exists()):
        read = Path(os.path.realpath(source))
        if written == read or read in written.parents or written in read.parents:
            raise OutputError(
                f"The output {output} and the input {source} overlap: replacing one would lose "
                "the other. Name another output."
            )


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
                raise _output_error(path, error) from error
            try:
                yield work
                _publish(work, path, place, kind, force=force)
            except OSError as error:
                if not _is_of(error, work, place):
                    raise
                raise _output_error(path, error) from error
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
        raise _output_error(path, error) from error
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
    """`_check_ours` of the directory that was replaced, under the name that the user knows.

    Raises:
        OutputError: it is another's, or by now a link or a file.
    """
    if old.is_symlink() or not old.is_dir():
        raise OutputError(
            f"{path} became a link or a file while this was made, and was not touched. Name "
            "another output."
        )
    if any(old.iterdir()):
        _check_ours(path, old, kind)


def _is_of(error: OSError, *folders: Path) -> bool:
    """Whether an error is of writing the output: it names a file there, or none and a full disk."""
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if not names:
        if error.errno in (errno.ENOSPC, None):
            return is_full(folders[0])
        return error.errno == errno.EDQUOT
    paths = [Path(os.fsdecode(name)) for name in names]
    return any(path == folder or folder in path.parents for path in paths for folder in folders)


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"The disk is full; {path} was not written. Free space and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return OutputError(f"{path} cannot be written: {error.strerror}. Name another output.")
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"{path} has a name that is too long here. Name another output.")
    return OutputError(f"{path} was not written: {error}.")
