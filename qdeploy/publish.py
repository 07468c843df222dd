"""Directories that are either whole or absent: written under another name, then published."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from qdeploy.artifact import MANIFEST
from qdeploy.errors import OutputError


def check_output(path: Path, *, force: bool) -> None:
    """Refuse an output that exists (unless `force`) or whose parent cannot be written.

    Raises:
        OutputError: with what to do next.
    """
    if path.exists() and not force:
        raise OutputError(f"{path} already exists. Pass --force to replace it, or name another.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; the output is a directory. Name another.")
    if path.exists() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise OutputError(
            f"{path} holds files that qdeploy did not write; --force will not replace it. "
            "Name another output."
        )


def check_apart(output: Path, sources: Sequence[Path]) -> None:
    """Refuse an output that is, holds, or lies inside what is read; files that do not exist pass.

    Raises:
        OutputError: naming both.
    """
    written = output.resolve()
    for source in (path for path in sources if path.exists()):
        read = source.resolve()
        if written == read or read in written.parents or written in read.parents:
            raise OutputError(
                f"The output {output} and the input {source} overlap: replacing one would lose "
                "the other. Name another output."
            )


@contextlib.contextmanager
def staged(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling directory that takes the name `path` when the block ends well.

    Whatever happens inside the block (an error, Ctrl-C), nothing half-written stands under `path`;
    after a kill the leftover sibling is swept by the next run with the same output.

    Raises:
        OutputError: the output exists, is not writable, or the disk is full.
    """
    path = Path(os.path.abspath(path))
    with contextlib.suppress(OSError):
        _sweep(path)
    check_output(path, force=force)
    work = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        _publish(work, path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, path: Path) -> None:
    """Put `work` under the name `path`; an older directory goes only once the new one is whole."""
    if not path.exists():
        work.rename(path)
        return
    old = path.parent / f".{path.name}.{os.getpid()}.old.partial"
    path.rename(old)
    work.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove leftovers of runs that were killed while writing `path`."""
    for leftover in leftovers(path):
        if leftover.name.endswith(".old.partial") and not path.exists():
            leftover.rename(path)  # killed between the two renames: the older directory comes back
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def leftovers(path: Path) -> Iterator[Path]:
    """Temporary siblings of `path` whose process is gone."""
    for found in path.parent.glob(f".{path.name}.*.partial"):
        pid = found.name.removeprefix(f".{path.name}.").split(".")[0]
        if pid.isdigit() and not alive(int(pid)):
            yield found


def alive(pid: int) -> bool:
    """Whether a process of this number runs, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno == errno.ENOSPC:
        return OutputError(f"The disk is full; {path} was not written. Free space and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return OutputError(f"{path} cannot be written: {error.strerror}. Name another output.")
    return OutputError(f"{path} was not written: {error}.")
