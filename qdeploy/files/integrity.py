"""Whether the files of a directory are those that its manifest lists.

A file is read once to be hashed. Its digest is then known in this process for as long as its
inode, size and times stay the same.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from qdeploy.errors import ModelError, PlanError, choose
from qdeploy.files.artifact import MANIFEST, open_regular, sha256_stream
from qdeploy.schemas.manifest import Contents

T = TypeVar("T")
Signature = tuple[int, int, int, int, int]

SHA256, STAT = "sha256", "stat"
WAYS = (SHA256, STAT)
GRAPHS = ("model.onnx", "model.onnx.data", "model.plan", "kernels.cache")
_KNOWN_MOST = 4096  # digests that are kept
# Times of files tick every few milliseconds, on some file systems every two seconds: of a file that
# is younger a change need not be seen by them, and its digest is not kept.
_SETTLED_NS = 2_000_000_000
_PATIENCE_S, _PAUSE_S = 20.0, 0.02  # of a reader whose directory is replaced again and again
_known: dict[Signature, str] = {}
_lock = threading.Lock()
_MAKERS = {
    "model": ("export", "Export the checkpoint again"),
    "engine": ("build", "Build the engine again"),
}


def _signature(found: os.stat_result) -> Signature:
    """What changes with a file: device, inode, size, time of its content and of its inode."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def digest_of(path: Path) -> str:
    """Hex sha256 of a file; of one that did not change since, without reading it.

    Raises:
        OSError: it cannot be read.
    """
    now = time.time_ns()
    with open_regular(path) as stream:
        key = _signature(os.fstat(stream.fileno()))
        with _lock:
            if key in _known:
                return _known[key]
        digest = sha256_stream(stream)
        same = _signature(os.fstat(stream.fileno())) == key
    if same and now - key[-1] > _SETTLED_NS:
        with _lock:
            if len(_known) >= _KNOWN_MOST:
                _known.clear()
            _known[key] = digest
    return digest


def verify(
    directory: Path,
    manifest: Contents,
    names: Iterable[str] | None = None,
    *,
    how: str = SHA256,
) -> None:
    """Refuse a directory whose files are not those of its manifest.

    Args:
        directory: model or engine directory.
        manifest: of it.
        names: files that are opened; None for all that the manifest lists. One that is neither
            listed nor there is left out.
        how: "sha256", or "stat": sizes alone, in no time.

    Raises:
        ModelError: a file is missing, not listed, or another one.
        PlanError: another way.
    """
    choose("way to verify", str(how), WAYS, PlanError)
    files, sizes = manifest.get("files", {}), manifest.get("sizes", {})
    writer, again = _MAKERS[manifest["kind"]]
    for name in files if names is None else names:
        path = directory / name
        try:
            fault = _fault(path, files.get(name), sizes.get(name), how)
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read: {error.strerror}. Look at its permissions and at the disk."
            ) from error
        if fault:
            raise ModelError(f"{path} {fault.format(writer=writer)}. {again}, or put it back.")


def _fault(path: Path, digest: str | None, size: int | None, how: str) -> str:
    """What is wrong with a file, as a clause that names its {writer}; empty for nothing.

    Raises:
        OSError: it cannot be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        lost = digest is not None or os.path.lexists(path)
        return "is missing" if lost else ""
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if digest is None:
        return f"is not in {MANIFEST}: it came later"
    same = size in (None, found.st_size) if how == STAT else digest_of(path) == digest
    return "" if same else "is not the file that {writer} wrote"


def read_whole(directory: Path, read: Callable[[], T]) -> T:
    """What `read` makes of a directory that somebody may replace meanwhile: the old or the new.

    Args:
        directory: model or engine directory.
        read: opens its files; it is called again where the directory changed under it.

    Raises:
        ModelError: of `read`, where nothing changed; or it was never at rest.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        before = _state(directory)
        try:
            found = read()
        except Exception:
            if _state(directory) == before or time.monotonic() > deadline:
                raise
        else:
            if _state(directory) == before:
                return found
            if time.monotonic() > deadline:
                raise ModelError(
                    f"{directory} was replaced again and again while it was read. Load it when "
                    "nobody writes there."
                )
        time.sleep(_PAUSE_S)


def _state(directory: Path) -> tuple[Signature, ...] | None:
    """Signatures of a directory and of what a reader opens in it; None where it is not there."""
    found = []
    try:
        for path in (directory, directory / MANIFEST):
            found.append(_signature(path.stat()))
        for name in GRAPHS:
            if (directory / name).exists():
                found.append(_signature((directory / name).stat()))
    except OSError:
        return None
    return tuple(found)
