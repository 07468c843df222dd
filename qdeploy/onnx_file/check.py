"""ONNX files are looked at before anything opens them: what they are, and what they name.

ONNX Runtime, OpenVINO and onnx-ir are made for files of people who mean well. One pass over a
file's structure (`onnx_messages`), which reads no weight, refuses what `onnx_rules` says, and
weights that stand anywhere but beside it (`onnx_external`). docs/reliability.md says what is seen
and what is not.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.errors import ModelError
from qdeploy.onnx_file.constants import check_constants
from qdeploy.onnx_file.external import Place, bytes_of, check_external, kind_of_file, on_disk
from qdeploy.onnx_file.messages import read_structure
from qdeploy.onnx_file.rules import check_structure
from qdeploy.onnx_file.structure import File, WireError, cut
from qdeploy.schemas.manifest import Interface

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH = "model.onnx"
MAX_BYTES = (1 << 31) - 1  # protobuf ends there
_SHOWN = 8  # names in a text


def check_file(path: Path) -> int:
    """Look at a file that a user named; a link to it is followed.

    Returns:
        Bytes that the file and its weights take on the disk, and no more than are named: what has
        holes is larger only by what it says.

    Raises:
        ModelError: it is missing, no ONNX file, or breaks a rule.
    """
    return _check(path, None)


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
                "with its files (`cp -rL`), and name the copy; a download by `hf download "
                "--local-dir` has no links."
            )
    except (OSError, RuntimeError) as error:  # Python before 3.13 raises RuntimeError for a loop
        raise ModelError(f"{path} is a link that leads nowhere ({error}).") from error
    return _check(path, f"{path.name}.data")


def weight_bytes(path: Path) -> int:
    """Bytes of the initializers of a file's graph, inside it and beside it.

    Args:
        path: as `check_file` or `check_inside` found it good.
    """
    graph = _structure(path)[1].graph
    return 0 if graph is None else sum(map(bytes_of, graph.initializers))


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
    path: Path, inputs: Iterable[str], outputs: Iterable[str], manifest: Interface
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
            shown = ", ".join(map(cut, sorted(found)[:_SHOWN])) or "nothing"
            raise ModelError(
                f"{path} {what} {shown}, and by qdeploy.json it "
                f"{what} {', '.join(known)}. It is the graph of another model: make it again."
            )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _check(path: Path, only: str | None) -> int:
    """Bytes of a file and its weights, where it keeps the rules; `only` is for `check_inside`."""
    try:
        size, file = _structure(path)
        check_structure(file, flat=only is not None)
        if only is not None and file.graph is not None:
            check_constants(file.graph)
        place = Place(path.parent, path.name, only)
        return size + check_external(file.tensors, place)
    except WireError as error:
        remedy = "Take it anew from where it was made." if only is None else "Make it again."
        remedy = error.remedy or remedy
        raise ModelError(f"{path} cannot be read as ONNX: {error}. {remedy}") from None


def _structure(path: Path) -> tuple[int, File]:
    """Bytes of a file on the disk, and its structure.

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
            raise WireError(f"it is {kind_of_file(about.st_mode)}")
        if about.st_size == 0:
            raise WireError("it is empty")
        if about.st_size > MAX_BYTES:
            raise WireError(f"it has {about.st_size / 1e9:.1f} GB, and ONNX ends at 2 GB")
        with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
            return on_disk(about, about.st_size), read_structure(data)
    except OSError as error:
        raise WireError(f"{error.strerror}") from error
    finally:
        os.close(handle)
