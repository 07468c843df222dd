"""Where files are written that no error names, and whether there is space left."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

FULL = 1_000_000  # bytes that are free on a full disk, at most


def is_full(folder: Path) -> bool:
    """Whether the file system of a folder has no space left."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < FULL
    return False


def suspects() -> Iterable[Path]:
    """Where files are written that no error names, each file system once."""
    seen = set()
    for place in (temporary(), Path(os.curdir), Path("~/.cache").expanduser()):
        with contextlib.suppress(OSError):
            device = place.stat().st_dev
            if device not in seen:
                seen.add(device)
                yield place.absolute()


def temporary() -> Path:
    """The temporary directory; tempfile raises where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path(os.environ.get("TMPDIR", "/tmp"))
