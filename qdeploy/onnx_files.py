"""ONNX files are looked at before anything opens them: what they are, and what they name.

ONNX Runtime, OpenVINO and onnx-ir are made for files of people who mean well. One pass over a
file's structure (`onnx_wire`), which reads no weight, refuses what `onnx_rules` says, and weights
that stand anywhere but beside it. docs/reliability.md says what is seen and what is not.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from qdeploy.errors import ModelError
from qdeploy.onnx_rules import BITS, check_structure, shape_text
from qdeploy.onnx_structure import File, Tensor, WireError
from qdeploy.onnx_wire import read_structure

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH = "model.onnx"
MAX_BYTES = (1 << 31) - 1  # protobuf ends there


def check_file(path: Path) -> int:
    """Look at a file that a user named; a link to it is followed.

    Returns:
        Bytes of the file and of the files with its weights.

    Raises:
        ModelError: it is missing, no ONNX file, or breaks a rule.
    """
    return _check(path, path.parent, None)


def check_inside(path: Path) -> int:
    """Look at the graph of a model or engine directory, which may be somebody else's.

    It has to lie in that directory, and its weights in it or in `<name>.data` beside it: that is
    what qdeploy writes.

    Raises:
        ModelError: see `check_file`.
    """
    try:
        if path.is_symlink() and path.resolve().parent != path.parent.resolve():
            raise ModelError(
                f"{path} is a link out of its directory, and was not followed. Copy the directory "
                "with its files (`cp -rL`), and name the copy."
            )
    except (OSError, RuntimeError) as error:  # Python before 3.13 raises RuntimeError for a loop
        raise ModelError(f"{path} is a link that leads nowhere ({error}).") from error
    return _check(path, path.parent, f"{path.name}.data")


def load_graph(path: Path, remedy: str) -> ir.Model:
    """A file with onnx-ir, after it was looked at.

    Args:
        path: as `check_file` or `check_inside` found it good.
        remedy: what the error's text ends with.

    Raises:
        ModelError: it cannot be read.
    """
    import onnx_ir as ir

    try:
        return ir.load(path, format="protobuf")
    except (OSError, MemoryError):  # of the machine, and not of the file
        raise
    except Exception as error:  # protobuf's own decode errors, and onnx-ir's of many kinds
        raise ModelError(
            f"{path} cannot be read as ONNX: {_first_line(error)}. {remedy}"
        ) from error


def check_names(
    path: Path, inputs: Iterable[str], outputs: Iterable[str], manifest: Mapping[str, Any]
) -> None:
    """Hold what a graph takes and gives against its directory's manifest.

    Args:
        path: of the graph, for the error.
        inputs, outputs: of the graph; it may do without an input that the manifest names.

    Raises:
        ModelError: it wants an input, or lacks an output.
    """
    for what, names, known in (
        ("takes", inputs, manifest["inputs"]),
        ("gives", outputs, manifest["outputs"]),
    ):
        found = set(names)
        if not (found <= set(known) if what == "takes" else found >= set(known)):
            raise ModelError(
                f"{path} {what} {', '.join(sorted(found)) or 'nothing'}, and by qdeploy.json it "
                f"{what} {', '.join(known)}. It is the graph of another model: make it again."
            )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _check(path: Path, folder: Path, only: str | None) -> int:
    """Bytes of a file and its weights, where it keeps the rules; `only` is for `check_inside`."""
    try:
        size, file = _structure(path)
        check_structure(file, flat=only is not None)
        return size + _check_external(file.tensors, folder, only)
    except WireError as error:
        remedy = "Take it anew from where it was made." if only is None else "Make it again."
        raise ModelError(f"{path} cannot be read as ONNX: {error}. {remedy}") from None


def _structure(path: Path) -> tuple[int, File]:
    """Bytes of a file, and its structure.

    Opened without waiting: a FIFO without a writer would never come back.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise ModelError(
            f"{path} does not exist. Name an ONNX file, or a model or engine directory."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path} cannot be opened: {reason}. Name another file.") from error
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise WireError(f"it is {_kind(about.st_mode)}")
        if about.st_size == 0:
            raise WireError("it is empty")
        if about.st_size > MAX_BYTES:
            raise WireError(f"it has {about.st_size / 1e9:.1f} GB, and ONNX ends at 2 GB")
        with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
            return about.st_size, read_structure(data)
    except OSError as error:
        raise WireError(f"{error.strerror}") from error
    finally:
        os.close(handle)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _check_external(tensors: Sequence[Tensor], folder: Path, only: str | None) -> int:
    """Every tensor that stands in another file stands in one of `folder`, whole.

    Returns:
        Bytes of those files.
    """
    sizes: dict[str, int] = {}
    named = 0
    for tensor in tensors:
        if not tensor.is_external:
            continue
        name = f"the tensor {tensor.name}"
        entries = {key: values[0] for key, values in tensor.external.items()}
        if any(len(values) > 1 for values in tensor.external.values()):
            raise WireError(f"{name} says twice where it stands")
        location = entries.get("location", "")
        if only is not None and location != only:
            raise WireError(f"{name} names the file {location}, and qdeploy writes {only} alone")
        if location not in sizes:
            sizes[location] = _size_inside(folder, location, name)
        offset, length = (_whole(entries.get(key, ""), key, name) for key in ("offset", "length"))
        needed = -(-math.prod(tensor.dims) * BITS[tensor.data_type] // 8)
        if length not in (None, needed):
            raise WireError(f"{name} of shape {shape_text(tensor.dims)} names {length} bytes")
        if (offset or 0) + needed > sizes[location]:
            raise WireError(
                f"{name} ends behind the end of {location}, which has {sizes[location]} bytes"
            )
        named += needed
    total = sum(sizes.values())
    if named > 2 * total:
        raise WireError(f"its tensors name {named} bytes of files that have {total}")
    return total


def _whole(text: str, key: str, name: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise WireError(f"{name} has the {key} {text!r:.40}")
    return int(text)


def _size_inside(folder: Path, location: str, name: str) -> int:
    """Bytes of a file of weights that is a plain one below `folder`, with no link on the way."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith(("/", "\\")) or ":" in parts[0] or "\0" in location:
        raise WireError(f"{name} names the file {location!r}, and only files beside it are read")
    if ".." in parts or "\\" in location:
        raise WireError(f"{name} names the file {location!r}, which leads out of its directory")
    where = folder
    try:
        for part in parts:
            where = where / part
            about = where.lstat()
            if stat.S_ISLNK(about.st_mode):
                raise WireError(f"{name} names {location}, where {where} is a link; copy the file")
    except OSError as error:
        raise WireError(f"{name} names the file {location}: {error.strerror}") from None
    if not stat.S_ISREG(about.st_mode):
        raise WireError(f"{name} names {location}, which is {_kind(about.st_mode)}")
    if about.st_nlink > 1:
        raise WireError(
            f"{name} names {location}, which has a second name elsewhere (a hard link); copy it"
        )
    return about.st_size
