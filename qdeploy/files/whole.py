"""Files that a user names for reports: refused before the work, written whole after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from qdeploy.errors import ModelError, OutputError
from qdeploy.files.artifact import MANIFEST, read_json, replacing, write_bytes
from qdeploy.machine.faults import explain

_CHECKPOINT = "config.json"
_OF_A_SWEEP = ("sweep.json", "statistics.npz", "rows.jsonl", "trials", "model")
_ROWS = (".tsv", ".csv", ".jsonl", ".parquet")


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
            if place.is_dir():
                raise OutputError(f"{flag} {path} is a directory. Name a file in it.")
            if not place.parent.is_dir():
                raise OutputError(
                    f"{flag} {path}: the directory {path.parent} does not exist. Make it first."
                )
            writable = os.access(place.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise OutputError(f"{flag} {path}: {explain(error)}") from error
    if not writable:
        raise OutputError(f"{flag} {path} cannot be written. Name a file in another place.")


def check_reports(reports: Mapping[str, Path], others: Iterable[object]) -> None:
    """Refuse reports that would replace each other, or what the command reads or makes.

    Args:
        reports: by the option that names each.
        others: what the command was given; what names no file or directory is passed over.

    Raises:
        OutputError: naming the option and what would be lost.
    """
    places: dict[Path, str] = {}
    named = [path for path in others if isinstance(path, str | Path) and os.path.lexists(path)]
    known = {path: Path(os.path.realpath(path)) for path in named}
    for flag, path in reports.items():
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():
            continue  # a device or a pipe keeps nothing
        if place in places:
            raise OutputError(f"{flag} and {places[place]} name the same file, {path}. Name two.")
        places[place] = flag
        for other, real in known.items():
            if place == real or (place.exists() and _belongs(place, real)):
                raise OutputError(
                    f"{flag} {path} would replace what belongs to {other}. Name another file."
                )


def _belongs(file: Path, directory: Path) -> bool:
    """Whether a file is one of a directory's own, and no report that was put there before."""
    if directory not in file.parents:
        return False
    if not (directory / MANIFEST).exists():  # a checkpoint, or a folder of rows
        return (directory / _CHECKPOINT).exists() or file.suffix in _ROWS
    try:
        manifest = read_json(directory / MANIFEST)
    except ModelError:
        return True
    inside = file.relative_to(directory)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not files or not isinstance(files, dict):  # a sweep lists none
        return inside.parts[0] in {MANIFEST, *_OF_A_SWEEP}
    return inside.as_posix() in {MANIFEST, *files}


def write_file(flag: str, path: Path, content: bytes) -> None:
    """Write a report, whole or not at all; one that stands there is replaced, and stays till then.

    A link stays one, and a device or a pipe is written into.

    Raises:
        OutputError: it cannot be written.
    """
    with _refusing(flag, path):
        place = _place(path)
        if place.exists() and not place.is_file():
            place.write_bytes(content)
        else:
            write_bytes(place, content)


@contextlib.contextmanager
def written(flag: str, path: Path) -> Iterator[Callable[[bytes], object]]:
    """As `write_file`, for what comes piece by piece: the block is given what takes the pieces.

    Raises:
        OutputError: it cannot be written. What else the block raises passes, and nothing is left.
    """
    with contextlib.ExitStack() as stack:
        with _refusing(flag, path):
            place = _place(path)
            other = place.exists() and not place.is_file()
            partial = place if other else stack.enter_context(replacing(place))
            stream = stack.enter_context(partial.open("wb"))

        def write(content: bytes) -> None:
            with _refusing(flag, path):
                stream.write(content)
                stream.flush()

        yield write
        with _refusing(flag, path):
            stack.close()


@contextlib.contextmanager
def _refusing(flag: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{flag} {path} was not written: {explain(error)}") from error


def _place(path: Path) -> Path:
    """What a link leads to, which need not be there.

    Raises:
        OSError: a loop.
    """
    if not path.is_symlink():
        return path
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    return Path(os.path.realpath(path))
