"""What `--data` may name: a file, a GLUE directory, the embedded set or a data set of the hub."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import stat
from pathlib import Path

from qdeploy.data import mini
from qdeploy.data.files import unreadable
from qdeploy.data.hub import read_hub
from qdeploy.data.readers import READERS, Table
from qdeploy.data.squad import read_squad
from qdeploy.data.tokens import WORD_SUFFIXES, joining, read_conll
from qdeploy.errors import DataError

SPLITS = ("evaluation", "calibration")
HUB = "hub:"
_PRINTED = 4 << 20  # bytes of the start and of the end that stand for a large file
_FILES = READERS | dict.fromkeys(WORD_SUFFIXES, read_conll) | {".json": read_squad}
_GLUE_FILES = {"evaluation": ("dev.tsv", "dev_matched.tsv"), "calibration": ("train.tsv",)}


def open_source(source: str | Path, split: str) -> Table:
    """Find out what the source is, and open it.

    Args:
        source, split: of `qdeploy.data.read_rows`.

    Raises:
        DataError: there is no such source, or it cannot be opened.
    """
    name = str(source)
    if name == mini.NAME:
        return mini.read_mini(split)
    if name.startswith(HUB):
        return joining(read_hub(name.removeprefix(HUB), split))
    path = local_path(name)
    try:
        directory = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise unreadable(path, error) from None
        if is_hub_name(name):
            return joining(read_hub(name, split))
        raise _missing(name, path) from None
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the name
        raise unreadable(path, error) from error
    return _read(_glue_file(path, split) if directory else path)


def _read(path: Path) -> Table:
    """A file by its suffix, with the words of a list as one text.

    What is wrong behind its header is said when it is read: undecodable bytes, a ragged or
    malformed row, a file that changes.

    Raises:
        DataError: another suffix, no regular file, an unreadable one, no header, or Parquet without
            pyarrow.
    """
    read = _FILES.get(path.suffix.lower())
    if read is None:
        raise DataError(
            f"{path} has the suffix '{path.suffix}', and rows are read from {', '.join(_FILES)}. "
            "Convert the file, or rename it if only its name is wrong."
        )
    return joining(read(path))


def local_path(name: str) -> Path:
    """The path that a name spells, with the home directory for its ~."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # the ~ of a user that there is not
        return path.expanduser()
    return path


def is_hub_name(name: str) -> bool:
    """Whether a name that is no file here may be one of the hub.

    "glue/qnli" may; "data/qnli" beside an existing data/ is a mistyped path, and so is
    "data/rows.csv".
    """
    path = Path(name)
    spelled = re.fullmatch(r"[\w.-]+(/[\w.-]+){1,2}", name) is not None
    return spelled and path.suffix.lower() not in _FILES and not path.parent.exists()


def canonical(source: str | Path) -> str:
    """A source under the one name that it has from every directory: an absolute path, hub:NAME, or
    the embedded set."""
    name = str(source)
    if name == mini.NAME or name.startswith(HUB):
        return name
    path = local_path(name)
    if not os.path.lexists(path) and is_hub_name(name):
        return f"{HUB}{name}"
    return os.path.abspath(path)


def spelled_here(source: str) -> str:
    """What `canonical` gave, as it is typed in the current directory where it lies in there."""
    if Path(source).is_absolute():
        with contextlib.suppress(OSError, ValueError):  # a directory that is gone; another drive
            here = Path.cwd()
            if here.parent != here and here in Path(source).parents:
                return str(Path(source).relative_to(here))
    return source


def fingerprint(source: str) -> str | None:
    """What tells a file from another of its name; of a directory its files of GLUE.

    Of a large file the size, the start and the end count. None of what is no file here, and of what
    cannot be read.
    """
    if source == mini.NAME or source.startswith(HUB):
        return None
    path, digest = local_path(source), hashlib.sha256()
    try:
        names = (name for named in _GLUE_FILES.values() for name in named)
        files = [path] if path.is_file() else [path / name for name in names]
        found = [file for file in files if file.is_file()]
        for file in found:
            size = file.stat().st_size
            digest.update(f"{size} ".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_PRINTED))
                stream.seek(max(size - _PRINTED, stream.tell()))
                digest.update(stream.read(_PRINTED))
    except (OSError, ValueError):
        return None
    return f"sha256:{digest.hexdigest()}" if found else None


def _missing(name: str, path: Path) -> DataError:
    known = ""
    if path.suffix.lower() not in _FILES and "/" not in name:
        near = difflib.get_close_matches(name, [mini.NAME], n=1)
        known = f" Did you mean '{mini.NAME}'?" if near else ""
        known += f" For a hub data set write hub:{name}."
    return DataError(
        f"{name} does not exist.{known} Data is a file ({', '.join(_FILES)}), a directory with "
        f"GLUE's TSVs, {mini.NAME}, or hub:NAME."
    )


def _glue_file(directory: Path, split: str) -> Path:
    """GLUE's file of a split; of MNLI, whose dev set is of two, the matched one."""
    path = directory / _GLUE_FILES[split][0]
    for name in _GLUE_FILES[split]:
        try:
            (directory / name).lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreadable(directory / name, error) from error
        return directory / name
    raise DataError(
        f"{directory} has no {path.name}, which holds a GLUE directory's {split} rows; it holds "
        f"{_held(directory)}. Name the file itself."
    )


def _held(directory: Path) -> str:
    try:
        return ", ".join(sorted(entry.name for entry in directory.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise unreadable(directory, error) from error
