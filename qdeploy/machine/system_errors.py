"""What an error number of the operating system means for a file, and what to do: one text each."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from qdeploy.machine.disk import is_full, suspects, temporary

_SHOWN = 300  # characters of a name that is too long


def system_text(error: OSError, path: Path | None) -> str:
    """What went wrong and what to do, in one or two sentences.

    Args:
        error: as Python raised it.
        path: the file that is to blame; None where nobody knows.
    """
    return _TEXTS.get(error.errno or 0, _other)(error, path)


def _full(error: OSError, path: Path | None) -> str:
    if path is not None:
        where = _existing(path)
        return f"The disk of {where} is full; {path} was not written. Free space and run again."
    places = [place for place in suspects() if is_full(place)]
    if not places:
        return (
            "A disk is full. Free space where the output goes, or in the temporary directory "
            f"({temporary()}), and run again."
        )
    named = " and of ".join(map(str, places))
    return f"The disk of {named} is full. Free space there and run again{_elsewhere(places)}."


def _quota(error: OSError, path: Path | None) -> str:
    return (
        f"The disk quota is used up; {path or 'a file'} was not written. Free space of your own, "
        "and run again."
    )


def _elsewhere(places: Iterable[Path]) -> str:
    return ", or set TMPDIR to another folder" if temporary() in places else ""


def _denied(error: OSError, path: Path | None) -> str:
    if path is None:
        return f"{_words(error)}. Look at what this user may do here."
    for parent in reversed(_absolute(path).parents):
        if parent.is_dir() and not _may(parent, os.X_OK):
            return (
                f"{path} cannot be reached: the directory {parent} may not be entered. Have its "
                "permissions changed, or name another place."
            )
    if not os.path.lexists(path):
        return (
            f"{path} cannot be made: there is no permission to write in {_existing(path)}. Have "
            "its permissions changed, or name another place."
        )
    doing = "written" if _may(path, os.R_OK) else "read"
    return f"{path} cannot be {doing}: {_words(error)}. Have its permissions changed."


def _read_only(error: OSError, path: Path | None) -> str:
    return (
        f"{path or 'A file'} cannot be written: its file system is read-only. Name another place."
    )


def _no_directory(error: OSError, path: Path | None) -> str:
    if path is None:
        return f"{_words(error)}."
    above = [*reversed(_absolute(path).parents), _absolute(path)]
    file = next((part for part in above if part.exists() and not part.is_dir()), path)
    return f"{path} cannot be opened: {file} is not a directory. Name another path."


def _missing(error: OSError, path: Path | None) -> str:
    try:
        Path.cwd()
    except OSError:
        if path is None or not path.is_absolute():
            return "The working directory was removed. Change to one that exists."
    if path is None:
        return f"{_words(error)}."
    found = _existing(path)
    part = "" if found == _absolute(path).parent else f" ({found} does)"
    return f"{path} does not exist{part}. Look at the name, and at who else works there."


def _exists(error: OSError, path: Path | None) -> str:
    return f"{path or 'A file'} exists already, as something else. Move it away."


def _too_many(error: OSError, path: Path | None) -> str:
    named = f"; {path} was not opened" if path is not None else ""
    return f"Too many files are open{named}. Raise the limit (`ulimit -n`, now {_files()})."


def _files() -> str:
    with contextlib.suppress(ImportError, OSError):
        import resource

        return str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return "unknown"


def _too_large(error: OSError, path: Path | None) -> str:
    return (
        f"{path or 'A file'} is larger than files may be here (`ulimit -f`, or the file system). "
        "Raise the limit, or name another place."
    )


def _too_long(error: OSError, path: Path | None) -> str:
    shown = str(path or "A file")
    shown = shown if len(shown) < _SHOWN else f"{shown[:_SHOWN]}…"
    return f"{shown} has a name that is too long here. Take a shorter one."


def _loop(error: OSError, path: Path | None) -> str:
    return f"{path or 'A file'} is a loop of links, or one that is too long. Name the file itself."


def _stale(error: OSError, path: Path | None) -> str:
    return (
        f"{path or 'A file'} was lost by its network file system ({_words(error)}). Mount it again "
        "and run again."
    )


def _broken(error: OSError, path: Path | None) -> str:
    return (
        f"{path or 'A disk'} failed ({_words(error)}). The disk or its connection is faulty: look "
        "at the system's log."
    )


def _processes(error: OSError, path: Path | None) -> str:
    named = f" ({path})" if path is not None else ""
    return (
        f"{_words(error)}{named}: the limit of processes (`ulimit -u`, or the container's) is "
        "reached, or something is busy. Raise it, or run again."
    )


def _other(error: OSError, path: Path | None) -> str:
    named = f"{path}: " if path is not None else ""
    return f"{named}{_words(error)}."


def _words(error: OSError) -> str:
    """The system's own words, or those of the library that raised."""
    return (error.strerror or " ".join(str(error).split()) or type(error).__name__).rstrip(".")


def _existing(path: Path) -> Path:
    """The nearest directory above a path that is there."""
    for parent in _absolute(path).parents:
        with contextlib.suppress(OSError):
            if parent.is_dir():
                return parent
    return Path(path.anchor or os.curdir)


def _absolute(path: Path) -> Path:
    """The full path; as it is where the working directory was removed."""
    try:
        return path.absolute()
    except OSError:
        return path


def _may(path: Path, mode: int) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, mode, effective_ids=effective)


_TEXTS: dict[int, Callable[[OSError, Path | None], str]] = {
    errno.ENOSPC: _full,
    errno.EDQUOT: _quota,
    errno.EACCES: _denied,
    errno.EPERM: _denied,
    errno.EROFS: _read_only,
    errno.ENOTDIR: _no_directory,
    errno.ENOENT: _missing,
    errno.EEXIST: _exists,
    errno.EMFILE: _too_many,
    errno.ENFILE: _too_many,
    errno.EFBIG: _too_large,
    errno.ENAMETOOLONG: _too_long,
    errno.ELOOP: _loop,
    errno.ESTALE: _stale,
    errno.EIO: _broken,
    errno.EAGAIN: _processes,
}
