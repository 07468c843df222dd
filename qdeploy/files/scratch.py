"""Folders for work that nobody keeps, in the system's temporary directory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qdeploy.errors import ModelError, OutputError, QDeployError, VerificationError
from qdeploy.files.lease import leased_folder, sweep
from qdeploy.machine.disk import is_full
from qdeploy.machine.faults import is_memory


def temporary_directory() -> Path:
    """The system's temporary directory.

    Raises:
        OutputError: none can be written; the text names those that were tried.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # Python's own, with the places that it tried
        raise OutputError(
            f"No temporary directory can be written ({error.strerror or error}). Free space, or "
            "set TMPDIR to a folder that can."
        ) from error


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A private folder that goes when the block ends; after a kill the next one removes it.

    A block that fails while the temporary directory is full fails for that: what runtimes write
    there stays short without a word, or with one about the engine.

    Args:
        purpose: one word, for its name.

    Raises:
        OutputError: the temporary directory cannot be written, or is full; the text names it.
    """
    home = temporary_directory()
    sweep(home)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(leased_folder(home, f"qdeploy-{purpose}", mode=0o700))
        except OSError as error:
            raise OutputError(
                f"The temporary directory {home} cannot be written: {error.strerror}. Free space "
                "there, or set TMPDIR to another folder."
            ) from error
        try:
            yield folder
        except Exception as error:
            if not _may_be_of_space(error) or not is_full(folder):
                raise
            raise OutputError(
                f"The temporary directory {home} is full, and this needs room there. Free space, "
                "or set TMPDIR to another folder."
            ) from error


def _may_be_of_space(error: Exception) -> bool:
    """Whether a full disk may be behind it: not behind wrong options, rows or gates."""
    if isinstance(error, QDeployError):
        return isinstance(error, ModelError | VerificationError)
    return not is_memory(error)
