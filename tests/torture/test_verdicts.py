"""The campaign's judgements, on runs whose verdict is known."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.torture import damaged, hostile, rows
from tests.torture.ground import (
    CLEAR,
    ERROR,
    HUNG,
    UNEXPECTED,
    WORKED,
    close_to,
    leftovers,
    replied,
    told,
)


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        (0, "", WORKED),
        (2, "Error: x does not exist. Name another.", CLEAR),
        (2, "", UNEXPECTED),
        (1, "Traceback (most recent call last):\n…", UNEXPECTED),
        (70, "Error: qdeploy failed unexpectedly", UNEXPECTED),
        (-11, "", UNEXPECTED),
        (-999, "", HUNG),
    ],
)
def test_commands(code: int, text: str, verdict: str) -> None:
    assert told(code, text) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"value": 1}, WORKED),
        ({"hung": 1}, HUNG),
        ({"died": -11}, UNEXPECTED),
        ({"classes": ["builtins.KeyError"], "text": "labels"}, UNEXPECTED),
        ({"classes": ["qdeploy.errors.ModelError", ERROR], "text": "/x/model.onnx is …"}, CLEAR),
        ({"classes": ["qdeploy.errors.ModelError", ERROR], "text": "broken"}, UNEXPECTED),
    ],
)
def test_replies(reply: dict[str, object], verdict: str) -> None:
    assert replied(reply, "model.onnx") == verdict


def test_scores_are_equal_but_for_rounding() -> None:
    assert close_to(["a", 0.5, "b", 0.5], ["a", 0.5, "b", 0.50001])
    assert not close_to(["a", 0.5, "b", 0.5], ["a", 0.5, "b", 0.6])
    assert not close_to(["a", 0.5], ["b", 0.5]) and close_to(["a", 0.5], ["b", 0.5], names=False)
    assert not close_to(["a", 0.5], ["a"])


def test_what_is_left_is_seen(tmp_path: Path) -> None:
    for name in ("out", ".out.1.partial", ".out.1.lease", "qdeploy-auto-x", "notes"):
        (tmp_path / name).touch()
    assert len(leftovers(tmp_path)) == 3


@pytest.mark.parametrize("seed", range(20))
def test_each_damage_changes_something(tmp_path: Path, seed: int) -> None:
    home = tmp_path / "engine"
    home.mkdir()
    for name in ("model.onnx", "plan.json", "qdeploy.json"):
        (home / name).write_text('{"files": {}, "labels": ["a", "b"], "sites": [1, 2, 3]}')
    before = {p.name: p.read_bytes() for p in home.iterdir()}
    damaged.damage(home, tmp_path / "other", random.Random(seed))
    assert {p.name: p.read_bytes() for p in home.iterdir()} != before


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_every_hostile_file_can_be_made(tmp_path: Path, kind: str) -> None:
    (tmp_path / "canary").write_bytes(b"x" * 1000)
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        hostile.KINDS[kind](folder / "model.onnx", tmp_path / "canary", random.Random(seed))
        assert (folder / "model.onnx").exists() or (folder / "model.onnx").is_symlink()


def test_files_of_rows_know_their_number(tmp_path: Path) -> None:
    for seed in range(60):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path, known, what = rows._file(folder, random.Random(seed))
        if known and path.suffix != ".csv":
            lines = path.read_bytes().strip().count(b"\n") + (path.suffix == ".jsonl")
            assert lines == known, what
    shutil.rmtree(tmp_path)
