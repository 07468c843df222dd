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
from collections.abc import Iterator
from pathlib import Path

from qdeploy.errors import MachineError, QDeployError
from qdeploy.machine.remedies import missing_package
from qdeploy.machine.system_errors import system_text

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
    text = system_text(error, path)
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
