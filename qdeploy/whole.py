"""Files that a user names for reports: refused before the work, written whole after it."""

from __future__ import annotations

import os
from pathlib import Path

from qdeploy.artifact import write_bytes
from qdeploy.errors import OutputError
from qdeploy.faults import explain


def check_file(flag: str, path: Path) -> None:
    """Refuse a file that cannot be written before the work, not after it.

    Args:
        flag: the option that names it, for the text.

    Raises:
        OutputError: its directory does not exist or may not be written, or it is a directory.
    """
    try:
        place = _place(path)
        if place.exists() and not place.is_file() and not place.is_dir():
            writable = os.access(place, os.W_OK)  # a device or a pipe
        else:
            if not place.parent.is_dir():
                raise OutputError(
                    f"{flag} {path}: the directory {path.parent} does not exist. Make it first."
                )
            writable = not place.is_dir() and os.access(place.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise OutputError(f"{flag} {path}: {explain(error)}") from error
    if not writable:
        raise OutputError(f"{flag} {path} cannot be written. Name a file in another place.")


def write_file(flag: str, path: Path, content: bytes) -> None:
    """Write a report, whole or not at all; one that stands there is replaced, and stays till then.

    A link stays one, and a device or a pipe is written into.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        place = _place(path)
        if place.exists() and not place.is_file():
            place.write_bytes(content)
        else:
            write_bytes(place, content)
    except OSError as error:
        raise OutputError(f"{flag} {path} was not written: {explain(error)}") from error


def _place(path: Path) -> Path:
    """What a link leads to; a loop raises, as every use of it would."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path
