"""What the machine refuses, in words: full disks, permissions, limits, no memory.

The operating system says a number, sometimes with a file. A user needs the file that is to blame,
what is wrong with it, and what to do. Whoever does not know better lets `explain` say it; the
Python functions and the command line do so for whatever reaches them (`explained`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from qdeploy.errors import MachineError, QDeployError
from qdeploy.machine.remedies import missing_package

FULL = 1_000_000  # bytes that are free on a full disk, at most
_MEMORY = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|cannot allocate memory|out of memory"
    r"|unable to allocate|not enough memory|insufficient memory|failed to map segment",
    re.IGNORECASE,
)
_SYSTEM = re.compile(r"system error number (\d+)")  # of ONNX Runtime
_SHOWN = 300  # characters of an error's own words
_LESS = (
    "Take fewer rows at once (--batch-size), shorter ones (--max-length, --seq-len) or fewer "
    "--threads, or give the process more memory."
)


def explain(
    error: OSError | MemoryError, *, cls: type[QDeployError] = MachineError
) -> QDeployError:
    """An error of the operating system as one whose text is for the user.

    Args:
        error: as Python raised it; its `filename` is the file that is blamed.
        cls: class of the result.
    """
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return cls(_out_of_memory(error))
    names = [name for name in (error.filename2, error.filename) if isinstance(name, str | bytes)]
    path = Path(os.fsdecode(names[0])) if names else None
    text = _SPECIAL.get(error.errno or 0, _other)(error, path)
    if len(names) > 1:
        text += f" (It was to come from {os.fsdecode(names[1])}.)"
    return cls(text)


def machine_fault(error: BaseException) -> QDeployError | None:
    """What `explain` says of an error of the machine, whoever raised it; None for all others.

    A package of an extra that is not installed is one, too.

    C++ libraries and imports raise classes of their own, so their texts tell when memory or files
    were short.
    """
    if isinstance(error, BrokenPipeError | QDeployError):
        return None
    missing = missing_package(error)
    if missing is not None:
        return missing
    if isinstance(error, OSError | MemoryError):
        return explain(error)
    if isinstance(error, UnicodeError):
        return MachineError(_not_text(error))
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return MachineError(
            "A path holds a NUL character, which no file has in its name. Name another."
        )
    if isinstance(error, RecursionError):
        return MachineError(
            "The input is nested too deeply to be followed. Nothing of this depth is expected: "
            "look at the file that was read last."
        )
    if isinstance(error, Exception) and is_memory(error):
        return MachineError(_out_of_memory(error))
    if os.strerror(errno.EMFILE) in str(error):  # a library that could not be loaded
        return explain(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MachineError(
            "No further thread could be started: the limit of processes (`ulimit -u`, or the "
            "container's) or of memory is reached. Raise it, or pass fewer --threads."
        )
    return None


def library_fault(error: BaseException, path: Path) -> QDeployError | None:
    """`machine_fault` of an error that a runtime raised when it opened a file."""
    number = _SYSTEM.search(str(error))
    if number is None:
        return machine_fault(error)
    code = int(number[1])
    return explain(OSError(code, os.strerror(code), str(path)))


def named(error: OSError, path: Path) -> OSError:
    """The same error with a file to blame: writing says none."""
    error.filename, error.filename2 = str(path), None
    return error


def is_memory(error: BaseException) -> bool:
    """Whether memory was short, by the class or by the words of a C++ library."""
    return isinstance(error, MemoryError) or _MEMORY.search(str(error)) is not None


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the machine leave the block, or the function, as those of `explain`.

    Raises:
        QDeployError: in place of an error of the machine.
    """
    try:
        yield
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        raise fault from error


def is_full(folder: Path) -> bool:
    """Whether the file system of a folder has no space left."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < FULL
    return False


def _out_of_memory(error: BaseException) -> str:
    words = " ".join(str(error).split())[:_SHOWN]
    if isinstance(error, OSError) or not words:
        return f"Out of memory. {_LESS}"
    return f"Out of memory ({words.rstrip('.')}). {_LESS}"


def _not_text(error: UnicodeError) -> str:
    shown = getattr(error, "object", "")
    named = f" in {shown[:80]!a}" if isinstance(shown, str | bytes) and shown else ""
    return (
        f"A name or a text is not UTF-8{named} ({getattr(error, 'reason', error)}). Rename the "
        "file, or save the text as UTF-8."
    )


def _full(error: OSError, path: Path | None) -> str:
    if path is not None:
        where = _existing(path)
        return f"The disk of {where} is full; {path} was not written. Free space and run again."
    places = [place for place in _suspects() if is_full(place)]
    if not places:
        return (
            "A disk is full. Free space where the output goes, or in the temporary directory "
            f"({_temporary()}), and run again."
        )
    named = " and of ".join(map(str, places))
    return f"The disk of {named} is full. Free space there and run again{_elsewhere(places)}."


def _quota(error: OSError, path: Path | None) -> str:
    return (
        f"The disk quota is used up; {path or 'a file'} was not written. Free space of your own, "
        "and run again."
    )


def _suspects() -> Iterable[Path]:
    """Where files are written that no error names, each file system once."""
    seen = set()
    for place in (_temporary(), Path(os.curdir), Path("~/.cache").expanduser()):
        with contextlib.suppress(OSError):
            device = place.stat().st_dev
            if device not in seen:
                seen.add(device)
                yield place.absolute()


def _temporary() -> Path:
    """The temporary directory; tempfile raises where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _elsewhere(places: Iterable[Path]) -> str:
    return ", or set TMPDIR to another folder" if _temporary() in places else ""


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


_SPECIAL: dict[int, Callable[[OSError, Path | None], str]] = {
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
