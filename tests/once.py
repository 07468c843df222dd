"""What is made once per run of the tests, by whichever of its processes asks first."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class Once:
    """Folders that all processes of a run share; none is to be changed after it was made."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        base = factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        self._home = shared / "once"
        self._home.mkdir(exist_ok=True)

    def __call__(self, name: str, key: Any, make: Callable[[Path], T]) -> tuple[Path, T]:
        """The folder of this name and key, and what `make` returned when it filled it.

        Args:
            name: how the folder's name begins.
            key: everything that the content depends on; its `repr` tells it from others.
            make: fills an empty folder and returns a value that can be pickled. When it raises,
                nothing is kept, and the next who asks tries again.
        """
        folder = self._folder(name, key)
        made = folder.with_suffix(".made")
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it
            if not made.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                made.write_bytes(pickle.dumps(make(folder)))
        return folder, pickle.loads(made.read_bytes())

    def is_begun(self, name: str, key: Any) -> bool:
        """Whether somebody has asked for it, and may still be at it."""
        return self._folder(name, key).with_suffix(".lock").exists()

    def is_made(self, name: str, key: Any) -> bool:
        """Whether it would be there at once."""
        return self._folder(name, key).with_suffix(".made").exists()

    def _folder(self, name: str, key: Any) -> Path:
        return self._home / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"
