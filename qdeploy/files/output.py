"""Whether an output may be written: it is free, or ours to replace, and apart from what is read."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from qdeploy.errors import ModelError, OutputError
from qdeploy.files.artifact import MANIFEST, SIGNATURE, read_json
from qdeploy.files.lease import sweep
from qdeploy.names import few
from qdeploy.text import is_utf8

# What qdeploy writes into a finished directory later on, by kind.
_LATER = {
    "model": re.compile(r"statistics/([0-9a-f]{20}\.npz|data\.json)"),
    # of `sign`, and of importing its predict.py
    "engine": re.compile(rf"{re.escape(SIGNATURE)}|__pycache__/predict\.[\w.-]+\.pyc"),
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
        check_ours(path, place, kind)
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
            raise output_error(path, error) from error
        raise OutputError(
            f"{path} is a link that leads to itself. Remove it, or name another output."
        ) from error


def check_ours(path: Path, place: Path, kind: str) -> None:
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
        raise OutputError(
            f"{path} holds what qdeploy did not write ({few(foreign, _NAMED)}); --force will not "
            "remove it. Move it elsewhere, or name another output."
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


def output_error(path: Path, error: OSError) -> OutputError:
    """An error of writing under `path`, with what to do next."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"The disk is full; {path} was not written. Free space and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return OutputError(f"{path} cannot be written: {error.strerror}. Name another output.")
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"{path} has a name that is too long here. Name another output.")
    return OutputError(f"{path} was not written: {error}.")
