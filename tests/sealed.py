"""Models and engines to damage, exported and built once: for the tests of what is read back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import qdeploy
from tests.exports import Exports

PAIRS = [("what is the name of the river", "the river is long"), ("who was king", "a king")]
ROWS = 8


def make(home: Path, exported: Exports) -> None:
    """`model` and its engine `engine`; `other-model`, of another size, and its engine `other`."""
    options: dict[str, Any] = {"calibration_rows": ROWS, "strategy": "peg", "measure": False}
    for model, engine, hidden in (("model", "engine", 32), ("other-model", "other", 64)):
        shutil.copytree(exported(hidden=hidden).model_dir, home / model)
        qdeploy.build(home / model, home / engine, **options)


def answers(directory: Path) -> list[dict[str, float]]:
    """The scores of `PAIRS`."""
    return [row.scores for row in qdeploy.load(directory).predict(PAIRS)]
