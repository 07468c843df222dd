"""A small directory written through `staged`, and what the tests of publishing ask of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdeploy.files.artifact import write_manifest
from qdeploy.files.publish import staged
from tests.manifests import fields


def write(path: Path, text: str, *, force: bool = False) -> None:
    """A whole directory with one file and its manifest."""
    with staged(path, "model", force=force) as work:
        (work / "model.onnx").write_text(text)
        write_manifest(work, "model", fields("model", seed=0))


def entries(folder: Path) -> list[str]:
    """What a folder holds, in order."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A directory that qdeploy wrote."""
    write(tmp_path / "out", "old")
    return tmp_path / "out"
