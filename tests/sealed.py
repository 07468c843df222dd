"""Models and engines to damage, exported and built once: for the tests of what is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qdeploy
from tests.tiny import tiny_checkpoint

PAIRS = [("what is the name of the river", "the river is long"), ("who was king", "a king")]
ROWS = 8


def make(home: Path) -> Path:
    """`model` and its engine `engine`; `other-model`, of another size, and its engine `other`."""
    options: dict[str, Any] = {"calibration_rows": ROWS, "strategy": "peg", "measure": False}
    for model, engine, hidden in (("model", "engine", 32), ("other-model", "other", 64)):
        checkpoint = tiny_checkpoint(home / f"{model}-checkpoint", seed=hidden, hidden=hidden)
        qdeploy.export(checkpoint, home / model)
        qdeploy.build(home / model, home / engine, **options)
    return home


def answers(directory: Path) -> list[dict[str, float]]:
    """The scores of `PAIRS`."""
    return [row.scores for row in qdeploy.load(directory).predict(PAIRS)]
