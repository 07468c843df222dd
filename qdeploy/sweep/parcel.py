"""Files as bytes, for machines that share no disk."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path


def model_files(model_dir: Path) -> dict[str, Path]:
    """The files of a model directory by name; statistics that are kept beside them stay here."""
    return {path.name: path for path in sorted(model_dir.iterdir()) if path.is_file()}


def pack(files: Mapping[str, Path]) -> bytes:
    """A tar of files and folders under the given names; those that do not exist are left out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, path in files.items():
            if path.exists():
                tar.add(path, name)
    return stream.getvalue()


def unpack(parcel: bytes, folder: Path) -> None:
    """Lay the files of a parcel into a folder; nothing is written outside it."""
    with tarfile.open(fileobj=io.BytesIO(parcel)) as tar:
        tar.extractall(folder, filter="data")


def unpack_whole(parcel: bytes, folder: Path) -> None:
    """Lay a parcel into a folder, each of its folders and files whole or not at all."""
    work = _beside(parcel, folder)
    for path in sorted(work.iterdir()):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    work.rmdir()


def unpack_once(parcel: bytes, name: str) -> Path:
    """The folder of a parcel that many tasks of one machine read, made by the first of them.

    Args:
        name: of the folder below the machine's temporary one; the same for the same content.
    """
    home = Path(tempfile.gettempdir()) / f"qdeploy-{name}"
    if not home.is_dir():
        work = _beside(parcel, home)
        try:
            work.rename(home)
        except OSError:  # another task was first
            shutil.rmtree(work, ignore_errors=True)
    return home


def _beside(parcel: bytes, folder: Path) -> Path:
    """A sibling of a folder that holds the parcel, of this process alone."""
    work = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    unpack(parcel, work)
    return work
