"""Renames that Linux does in one step: never over something, or two names swapped.

`renameat2(2)`, which Python's `os` has not. File systems without it get the nearest there is.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path

_NOREPLACE, _EXCHANGE = 1, 2  # flags, of <linux/fs.h>
_CURRENT = -100  # AT_FDCWD of <fcntl.h>
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # the kernel or the file system lacks it


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder to a name that nothing has.

    Without `renameat2` an empty folder of that name, made in the same moment, would be replaced:
    `rename(2)` of a folder refuses everything else.

    Raises:
        FileExistsError: something has the name, be it a dangling link.
        OSError: it cannot be renamed.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the file system cannot.

    Raises:
        OSError: one of them does not exist, or may not be renamed.
    """
    return _renameat2(one, other, _EXCHANGE)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Whether it was done; False where there is no such call here."""
    call = _call()
    if call is None:
        return False
    if call(_CURRENT, os.fsencode(source), _CURRENT, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


@functools.cache
def _call() -> Callable[..., int] | None:
    """glibc's function; None on other systems."""
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    found.restype = ctypes.c_int
    return found
