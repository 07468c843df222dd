"""Folders for work that nobody keeps, in the system's temporary directory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qdeploy.errors import OutputError
from qdeploy.lease import leased_folder, sweep


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A private folder that goes when the block ends; after a kill the next one removes it.

    Args:
        purpose: one word, for its name.

    Raises:
        OutputError: the temporary directory cannot be written; the text names it.
    """
    try:
        home = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # Python's own, with the places that it tried
        raise OutputError(
            f"No temporary directory can be written ({error.strerror or error}). Free space, or "
            "set TMPDIR to a folder that can."
        ) from error
    sweep(home)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(leased_folder(home, f"qdeploy-{purpose}", mode=0o700))
        except OSError as error:
            raise OutputError(
                f"The temporary directory {home} cannot be written: {error.strerror}. Free space "
                "there, or set TMPDIR to another folder."
            ) from error
        yield folder
