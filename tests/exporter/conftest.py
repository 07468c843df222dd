"""Checkpoints and exports that the tests of this folder share; each is made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qdeploy.exporter.export import export_checkpoint
from tests.tiny import tiny_checkpoint


@dataclass(frozen=True)
class Exported:
    """A tiny checkpoint, its model directory and the manifest that export returned."""

    checkpoint: Path
    model_dir: Path
    manifest: dict[str, Any]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Export a family's tiny checkpoint, once per session."""
    made: dict[tuple[str, str], Exported] = {}

    def export(family: str, task: str = "sequence-classification") -> Exported:
        if (family, task) not in made:
            home = tmp_path_factory.mktemp(family)
            checkpoint = tiny_checkpoint(home / "checkpoint", family, task)
            manifest = export_checkpoint(checkpoint, home / "model")
            made[family, task] = Exported(checkpoint, home / "model", manifest)
        return made[family, task]

    return export


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole BERT checkpoint; not to be changed."""
    return tiny_checkpoint(tmp_path_factory.mktemp("bert") / "checkpoint")


@pytest.fixture
def damaged(bert: Path, tmp_path: Path) -> Path:
    """A copy of it, for the test to damage."""
    return Path(shutil.copytree(bert, tmp_path / "damaged"))
