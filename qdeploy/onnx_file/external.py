"""Weights in other files: they stand beside the ONNX file, whole, and lead nowhere else."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from qdeploy.onnx_file.rules import BITS, shape_text
from qdeploy.onnx_file.structure import Tensor, WireError, cut

# Entries of a tensor. ONNX Runtime knows further ones, of weights that it packed for one processor.
_KEYS = {"location", "offset", "length", "checksum"}
# Runtimes take such places for addresses of their own memory: */_ORT_MEM_ADDR_/* and its kin.
_OF_MEMORY = "_ADDR_"
_MAX_FILES = 10_000
_MAX_PARTS = 32
_REMEDY = (
    "Copy the files of its weights beside it (`cp -L`, without links), under the names that it "
    "gives them, or save it with its weights inside."
)


@dataclass(frozen=True)
class Place:
    """Where an ONNX file stands.

    Attributes:
        folder: of the file.
        name: of the file in it.
        only: the one file that weights may stand in, each in a region of its own; None for any.
    """

    folder: Path
    name: str
    only: str | None = None


def check_external(tensors: Sequence[Tensor], place: Place) -> int:
    """Every tensor that stands in another file stands in one beside it, whole.

    Returns:
        Bytes of those files that tensors name, on the disk.

    Raises:
        WireError: one does not.
    """
    found: dict[str, os.stat_result] = {}
    regions: dict[str, list[tuple[int, int]]] = {}
    for tensor in tensors:
        if not tensor.is_external:
            continue
        location, offset = _entries(tensor)
        name = tensor.label()
        if place.only is not None and location != place.only:
            raise WireError(
                f"{name} names the file {cut(location)}, and qdeploy writes {place.only} alone"
            )
        if location not in found:
            if len(found) >= _MAX_FILES:
                raise WireError(f"its weights stand in more than {_MAX_FILES:,} files")
            found[location] = _beside(place, location, name)
        size = found[location].st_size
        end = offset + bytes_of(tensor)
        if end > size:
            raise WireError(
                f"{name} ends behind the end of {cut(location)}, which has {size} bytes", _REMEDY
            )
        regions.setdefault(location, []).append((offset, end))
    total = 0
    for location, named in regions.items():
        distinct = _distinct(named)
        if place.only is not None and sum(end - start for start, end in named) > distinct:
            raise WireError(f"tensors share regions of {location}, and qdeploy writes none that do")
        total += on_disk(found[location], distinct)
    return total


def on_disk(about: os.stat_result, size: int) -> int:
    """`size` bytes of a file, or what it has on the disk where that is less: files have holes."""
    blocks = getattr(about, "st_blocks", None)  # not on Windows
    return size if blocks is None else min(size, blocks * 512)


def kind_of_file(mode: int) -> str:
    """What a path is that is no regular file, for a text."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _distinct(regions: Iterable[tuple[int, int]]) -> int:
    """Bytes in any of them."""
    total = reached = 0
    for start, end in sorted(regions):
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total


def bytes_of(tensor: Tensor) -> int:
    """Bytes of its numbers, wherever they stand."""
    return -(-math.prod(tensor.dims) * BITS[tensor.data_type] // 8)


def _entries(tensor: Tensor) -> tuple[str, int]:
    """The file that a tensor names, and where in it the tensor starts."""
    name = tensor.label()
    for key, values in tensor.external.items():
        if key not in _KEYS:
            raise WireError(f"{name} has the entry {cut(key)!r}, which is not ONNX's")
        if len(values) > 1:
            raise WireError(f"{name} says twice where it stands")
    entries = {key: values[0] for key, values in tensor.external.items()}
    offset, length = (_whole(entries.get(key, ""), key, name) for key in ("offset", "length"))
    if length not in (None, bytes_of(tensor)):
        raise WireError(f"{name} of shape {shape_text(tensor.dims)} names {length} bytes")
    return entries.get("location", ""), offset or 0


def _whole(text: str, key: str, name: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise WireError(f"{name} has the {key} {text!r:.40}")
    return int(text)


def _beside(place: Place, location: str, name: str) -> os.stat_result:
    """A file of weights that is a plain one below the folder, with no link on the way."""
    parts = PurePosixPath(location).parts

    def refuse(fact: str) -> NoReturn:
        raise WireError(f"{name} names the file {cut(location)!r}, {fact}", _REMEDY) from None

    if not parts or location.startswith(("/", "\\")) or "\0" in location or _has_drive(location):
        refuse("and only files beside it are read")
    if ".." in parts or "\\" in location or len(parts) > _MAX_PARTS:
        refuse("which leads out of its directory")
    if "*" in parts or _OF_MEMORY in location:
        refuse("which is an address, and no file")
    if parts == (place.name,):
        refuse("which is the ONNX file itself")
    where = place.folder
    try:
        for part in parts:
            where = where / part
            about = where.lstat()
            if stat.S_ISLNK(about.st_mode):
                refuse(f"where {cut(part)} is a link")
    except OSError as error:
        refuse(f"and that cannot be read: {error.strerror}")
    if not stat.S_ISREG(about.st_mode):
        refuse(f"which is {kind_of_file(about.st_mode)}")
    if about.st_nlink > 1:
        refuse("which has a second name elsewhere (a hard link)")
    return about


def _has_drive(location: str) -> bool:
    """Whether a place is of a drive or, on Windows, of a stream; a colon is a letter elsewhere."""
    return re.match("[A-Za-z]:", location) is not None or (os.name == "nt" and ":" in location)
