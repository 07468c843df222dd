"""Leases: whether the process that works on something still lives, whoever and wherever it is.

A process number says nothing of another container or machine: each has a process 1. A lease is a
file that its owner keeps locked (`flock`, through the package filelock) and that names the owner.
The kernel drops the lock when the process ends, however it ends. Who gets the lock of a lease
therefore knows that its owner is gone. Where a disk is shared by machines that do not see each
other's locks, a lease of another machine counts as held for a day.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LEASE, FOLDER = ".lease", ".partial"
# Names that `leased_folder` gives, and those of scratch and parcels: any other hidden file or
# folder is somebody else's.
_SURE = ".qdeploy-"
_NAME = re.compile(rf"(?:{re.escape(_SURE)}.*|\..*\.[0-9a-f]{{12}}){re.escape(LEASE)}", re.DOTALL)
_FOREIGN_S = 24 * 3600  # a lease of another machine is held for so long, whatever its lock says
_STEM = 80  # characters of a name that a hidden one keeps: the longest name allowed has 255 bytes


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        host: its name, as the process sees it (a container's own).
        boot: one start of one kernel; containers share it with their host.
        pid: process number, as the process sees it.
        began: seconds since 1970.
        output: name of what is written, or empty.
    """

    host: str
    boot: str
    pid: int
    began: float
    output: str = ""

    def is_here(self) -> bool:
        """Whether it is of this host or container, so that its process number says something."""
        return self.boot == _boot() and self.host == platform.node()

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.began))
        return f"process {self.pid} on {self.host}, since {since}"


class Lease:
    """A lease that this process holds, until `release` or its end."""

    def __init__(self, path: Path, lock: BaseFileLock) -> None:
        self.path = path
        self._lock = lock

    def descriptor(self) -> int | None:
        """Of the file that is locked: a process that inherits it holds the lock too, until both
        have ended or one releases it. None where locks are not of descriptors."""
        return self._lock._context.lock_file_fd if os.name == "posix" else None

    def release(self) -> None:
        """Remove the file and drop the lock, in this order: a file without a lock is a leftover."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._lock.release()


def take(path: Path, *, output: str = "") -> Lease | None:
    """Take a lease, or one whose owner is gone; None where its owner lives.

    Args:
        path: its file; the folder must exist.
        output: noted in the file.

    Raises:
        OSError: the file cannot be written, or the file system has no locks.
    """
    lease = _over(path)
    if lease is None:
        return None
    try:
        path.write_text(json.dumps(asdict(_myself(output))), "utf-8")
    except OSError:
        lease.release()
        raise
    return lease


def holder_of(path: Path) -> Holder | None:
    """Who a lease names; None where it does not exist, or was cut short."""
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def leased_folder(
    parent: Path, stem: str, *, output: str = "", mode: int = 0o777
) -> Iterator[Path]:
    """A new hidden folder, which `sweep` removes once this process is gone.

    Args:
        parent: where it stands.
        stem: what its name begins with; long ones are cut.
        output: noted in the lease.
        mode: of the folder, less the umask.

    Raises:
        OSError: it cannot be made.
    """
    name = f".{stem[:_STEM]}"
    while len(os.fsencode(name)) > _STEM:
        name = name[:-1]
    lease = None
    while lease is None:  # a sweep that looks at the file just now holds its lock for a moment
        new = f"{name}.{secrets.token_hex(6)}"
        lease = take(parent / (new + LEASE), output=output)
    folder = parent / (new + FOLDER)
    try:
        folder.mkdir(mode=mode)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lease.release()


def sweep(parent: Path) -> None:
    """Remove from a folder what processes that are gone left there (`leased_folder`).

    Files of other users, and what cannot be removed, stay.
    """
    with contextlib.suppress(OSError):
        for lease in leftovers(parent):
            try:
                _discard(lease.path)
            finally:
                lease.release()


def leftovers(parent: Path) -> Iterator[Lease]:
    """The leases in a folder whose owners are gone, taken over one after the other."""
    found = [e.path for e in os.scandir(parent) if _ours(e)]
    for path in map(Path, sorted(found)):
        with contextlib.suppress(OSError):
            if (lease := _over(path)) is not None:
                yield lease


def _ours(entry: os.DirEntry[str]) -> bool:
    if not _NAME.fullmatch(entry.name):
        return False
    with contextlib.suppress(OSError):
        about = entry.stat(follow_symlinks=False)
        return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
    return False


def _over(path: Path) -> Lease | None:
    """A lease that is nobody's, or whose owner is gone and left its note; None where it lives."""
    if (lock := _locked(path)) is None:
        return None
    found = holder_of(path)
    if found is not None and _elsewhere(found, path):
        lock.release()
        return None
    return Lease(path, lock)


def _discard(lease: Path) -> None:
    """Remove the folder of a lease; an older output that it had moved aside comes back first.

    A lease names its owner before its folder is made: one that names none has no folder.
    """
    folder = lease.with_name(lease.name.removesuffix(LEASE) + FOLDER)
    aside = folder.with_name(folder.name + ASIDE)
    holder = holder_of(lease)
    if holder is None and not lease.name.startswith(_SURE):
        return
    if aside.is_dir() and holder is not None and holder.output:
        output = lease.parent / holder.output
        if not os.path.lexists(output):
            aside.rename(output)
    for path in (folder, aside):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


# Behind a folder's name: the older output, where a file system cannot swap two names in one step.
ASIDE = ".old"


def _locked(path: Path) -> BaseFileLock | None:
    """The lock of a file, made where there is none; None where somebody holds it."""
    path.parent.stat()  # filelock would make a folder that is missing
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _elsewhere(holder: Holder, path: Path) -> bool:
    """Whether a lease is of another machine, or of this one before it started anew, and young."""
    if holder.boot == _boot():
        return False
    return time.time() - path.stat().st_mtime < _FOREIGN_S


def _myself(output: str) -> Holder:
    return Holder(platform.node(), _boot(), os.getpid(), time.time(), output)


def _boot() -> str:
    """One start of this machine's kernel; its name where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return platform.node()
