"""Files as bytes, for machines that share no disk."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from qdeploy.files.artifact import MANIFEST, sha256_file
from qdeploy.files.lease import FOLDER, LEASE, leased_folder, sweep
from qdeploy.files.scratch import temporary_directory
from qdeploy.sweep.stored import listed_files

_ATTEMPTS, _PAUSE_S = 20, 0.05  # to lock a folder that others want to fill or take away
# Folders that this process reads, by their parcel's name, and what holds them for it.
_held: dict[str, tuple[Path, contextlib.ExitStack]] = {}


def directory_files(directory: Path, name: str = "") -> dict[str, Path]:
    """The files that a model or engine directory's manifest lists, and the manifest, by name.

    Whatever else stands there (statistics, notes, keys) does not travel.

    Args:
        name: of the directory in the parcel; empty for its top.
    """
    files = listed_files(directory) | {MANIFEST: directory / MANIFEST}
    return {f"{name}/{inside}" if name else inside: path for inside, path in files.items()}


def pack(files: Mapping[str, Path]) -> bytes:
    """A tar of files under the given names; links and those that do not exist are left out.

    The same contents give the same bytes.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, path in files.items():
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as content:
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(content.fileno()).st_size
                tar.addfile(entry, content)
    return stream.getvalue()


def unpack(parcel: bytes, folder: Path) -> None:
    """Lay the files of a parcel into a folder; nothing is written outside it."""
    with tarfile.open(fileobj=io.BytesIO(parcel)) as tar:
        tar.extractall(folder, filter="data")


def unpack_whole(parcel: bytes, folder: Path) -> None:
    """Lay a parcel into a folder, each of its folders and files whole or not at all."""
    sweep(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    with leased_folder(folder.parent, folder.name) as work:
        unpack(parcel, work)
        for path in sorted(work.iterdir()):
            target = folder / path.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            path.replace(target)


def unpack_once(parcel: bytes, name: str) -> Path:
    """The folder of a parcel that many tasks of one machine read, made by the first of them.

    It is this user's alone, and every file in it is held against the parcel before each use: what
    somebody else laid there, or a killed task left half, is not used. Where its name is taken by
    something of somebody else, this process has a folder of its own. Either goes with the last
    process that reads it; after a kill, with the next run of anything on that machine.

    Args:
        name: of the content; the same for the same content.

    Raises:
        OSError, OutputError: it cannot be written.
    """
    if name in _held and _holds(_held[name][0], parcel):
        return _held[name][0]
    release(name)
    home = temporary_directory()
    sweep(home)
    with contextlib.ExitStack() as stack:
        folder = _shared(parcel, home / f".qdeploy-parcel-{name}", stack)
        if folder is None:
            folder = stack.enter_context(leased_folder(home, "qdeploy-parcel", mode=0o700))
            unpack(parcel, folder)
        _held[name] = (folder, stack.pop_all())
    return _held[name][0]


def release(name: str) -> None:
    """Let go of a parcel's folder; it is removed where nobody else reads it."""
    if name in _held:
        folder, stack = _held.pop(name)
        stack.close()
        sweep(folder.parent)


@atexit.register
def _release_all() -> None:
    for name in list(_held):
        release(name)


def _shared(parcel: bytes, stem: Path, stack: contextlib.ExitStack) -> Path | None:
    """The parcel's folder, whole, with a lock that `stack` holds together with other processes.

    The lock is on a lease's file, so that a sweep takes the folder away once nobody holds it. Who
    fills the folder holds the lock alone, and lets go before it reads like the others.

    Returns:
        The folder; None where somebody else has its name, or reads something else in it.
    """
    import fcntl

    lock, folder = (stem.with_name(stem.name + end) for end in (LEASE, FOLDER))
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as attempt:
            if os.path.lexists(folder) and not _is_private(folder):
                return None
            if (descriptor := _opened(lock)) is None:
                return None
            attempt.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for who fills it
            if _is_of(descriptor, lock) and _holds(folder, parcel):
                stack.push(attempt.pop_all())
                return folder
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_of(descriptor, lock) and not _holds(folder, parcel):
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(mode=0o700)
                    unpack(parcel, folder)
                continue
        time.sleep(_PAUSE_S)
    return None


def _opened(lock: Path) -> int | None:
    """The file of a lock, made where it is missing; None where it is not this user's."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR):
            return None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    return None


def _is_private(folder: Path) -> bool:
    """Whether a folder is one (no link), ours, and closed to everybody else."""
    found = folder.lstat()
    closed = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    return closed and found.st_uid == os.geteuid()


def _is_of(descriptor: int, path: Path) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _holds(folder: Path, parcel: bytes) -> bool:
    """Whether a folder holds every file of a parcel, byte by byte, and no other."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    with tarfile.open(fileobj=io.BytesIO(parcel)) as tar:
        entries = {entry.name: entry for entry in tar if entry.isfile()}
        return entries.keys() == found.keys() and all(
            _equals(found[name], entry, tar) for name, entry in entries.items()
        )


def _equals(path: Path, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> bool:
    content = tar.extractfile(entry)
    if content is None or path.is_symlink() or not path.is_file():
        return False
    with content:
        return hashlib.sha256(content.read()).hexdigest() == sha256_file(path)
