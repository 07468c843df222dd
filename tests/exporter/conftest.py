"""Checkpoints and exports that the tests of this folder share; each is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.exports import Exports


@pytest.fixture(scope="session")
def bert(exported: Exports) -> Path:
    """A whole BERT checkpoint; not to be changed."""
    return exported().checkpoint


@pytest.fixture
def damaged(bert: Path, tmp_path: Path) -> Path:
    """A copy of it, for the test to damage."""
    return Path(shutil.copytree(bert, tmp_path / "damaged"))
