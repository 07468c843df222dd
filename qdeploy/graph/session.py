"""Sessions that fail: what a runtime says of a graph, with the file that the user knows.

Runtimes raise classes of their own for each cause, or one class for all. A graph may keep every
rule of ONNX and stop when it runs; and what is loaded is often a copy of the user's model, in a
folder that nobody was told of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.errors import QDeployError, RunError
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.machine.faults import library_fault
from qdeploy.onnx_file.check import GRAPH
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime as ort

# Lines of OpenVINO that only say that there is a reason; others that do end in a colon.
_EMPTY = ("Model wasn't fully converted",)
_SHOWN = 300  # characters of a reason


def reason_of(error: Exception) -> str:
    """The first line of an error that gives a reason; its class where none does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if not line.endswith(":") and not line.startswith(_EMPTY))
    found = next(telling, next(iter(lines), type(error).__name__))
    return found.removeprefix("-- ")[:_SHOWN].rstrip(".")


def run_error(path: Path, fact: str, remedy: str) -> RunError:
    """An error of a graph.

    Args:
        path: of its file.
        fact: as it goes on after that name.
        remedy: sentences.
    """
    error = RunError(f"{path} {fact}. {remedy}")
    error.fact = fact
    return error


def refused(error: Exception, path: Path, does_not: str, remedy: str) -> QDeployError:
    """What to raise for an error of a runtime that loads or runs a file.

    Args:
        path: of the file.
        does_not: "does not load in ONNX Runtime".
        remedy: see `run_error`.

    Returns:
        A MachineError where memory or another thing of the machine was short.
    """
    if (fault := library_fault(error, path)) is not None:
        return fault
    reason = reason_of(error).replace(str(path), path.name)  # it was named, or is hidden
    return run_error(path, f"{does_not}: {reason}", remedy)


@contextlib.contextmanager
def running(path: Path, runtime: str) -> Iterator[None]:
    """Errors of a runtime that runs a file leave the block as those of `refused`."""
    try:
        yield
    except QDeployError:
        raise
    except Exception as error:
        remedy = "If it runs on no inputs at all, it is damaged: make it again."
        raise refused(error, path, f"does not run in {runtime}", remedy) from error


def session_of(model: ir.Model, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session of ONNX Runtime's CPU provider for a graph, of which no file stays.

    Raises:
        RunError: it does not load; `blaming` knows which file it is of.
    """
    import onnxruntime as ort

    with scratch("session") as folder:
        path = folder / GRAPH
        save_graph(model, path, f"{GRAPH}.data")
        try:
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own for each cause
            raise refused(error, path, "does not load in ONNX Runtime", "Make it again.") from error


def run_session(
    session: ort.InferenceSession, feeds: Mapping[str, Array], path: Path
) -> list[Array]:
    """All outputs of an ONNX Runtime session of a file.

    Raises:
        RunError: it does not run.
        MachineError: memory was short.
    """
    with running(path, "ONNX Runtime"):
        outputs: list[Array] = session.run(None, dict(feeds))
        return outputs


@contextlib.contextmanager
def blaming(path: Path) -> Iterator[None]:
    """While this lasts only graphs are run that are made of a model: it is named in their place.

    Args:
        path: of the model's file.
    """
    try:
        yield
    except RunError as error:
        if str(error).startswith(f"{path} "):  # it is named already
            raise
        remedy = "The file is damaged, or not as `qdeploy export` wrote it: export it again."
        raise run_error(path, f"cannot be used: what is made of it {error.fact}", remedy) from error
