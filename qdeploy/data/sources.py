"""What `--data` may name: a file, a GLUE directory, the embedded set or a data set of the hub."""

from __future__ import annotations

import contextlib
import difflib
import re
import stat
from pathlib import Path

from qdeploy.data import mini
from qdeploy.data.files import unreadable
from qdeploy.data.hub import read_hub
from qdeploy.data.readers import READERS, Table, read_table
from qdeploy.errors import DataError

SPLITS = ("evaluation", "calibration")
_GLUE_FILES = {"evaluation": "dev.tsv", "calibration": "train.tsv"}


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
    if name.startswith("hub:"):
        return read_hub(name.removeprefix("hub:"), split)
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # the ~ of a user that there is not
        path = path.expanduser()
    try:
        directory = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise unreadable(path, error) from None
        # "glue/qnli" may be a hub name; "data/qnli" beside an existing data/ is a mistyped path
        if re.fullmatch(r"[\w.-]+(/[\w.-]+){1,2}", name) and not path.parent.exists():
            return read_hub(name, split)
        raise _missing(name, path) from None
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the name
        raise unreadable(path, error) from error
    return read_table(_glue_file(path, split) if directory else path)


def _missing(name: str, path: Path) -> DataError:
    known = ""
    if path.suffix.lower() not in READERS and "/" not in name:
        near = difflib.get_close_matches(name, [mini.NAME], n=1)
        known = f" Did you mean '{mini.NAME}'?" if near else ""
        known += f" For a hub data set write hub:{name}."
    return DataError(
        f"{name} does not exist.{known} Data is a file ({', '.join(READERS)}), a directory with "
        f"GLUE's TSVs, {mini.NAME}, or hub:NAME."
    )


def _glue_file(directory: Path, split: str) -> Path:
    path = directory / _GLUE_FILES[split]
    try:
        path.lstat()
    except FileNotFoundError:
        held = _held(directory)
    except OSError as error:
        raise unreadable(path, error) from error
    else:
        return path
    raise DataError(
        f"{directory} has no {path.name}, which holds a GLUE directory's {split} rows; it holds "
        f"{held}. Name the file itself."
    )


def _held(directory: Path) -> str:
    try:
        return ", ".join(sorted(entry.name for entry in directory.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise unreadable(directory, error) from error
