"""What every class of the campaign stands on: a tiny model, commands, and how they are judged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the campaign itself needs no pytest
    from tests.exports import Exports

WORKED, CLEAR, LEFTOVER, LOST = "worked", "clear", "leftover", "lost"
WRONG, UNEXPECTED, HUNG = "wrong", "unexpected", "hung"
VERDICTS = (WORKED, CLEAR, LEFTOVER, LOST, WRONG, UNEXPECTED, HUNG)
BAD = (LEFTOVER, LOST, WRONG, UNEXPECTED, HUNG)
# Two of these at a time, and the table has something to show; a recipe of a few seconds.
RECIPE = """trials:
  - strategy: [w8a8, peg]
calibration: {rows: 8}
accuracy: {limit: 8}
latency: {shapes: [1x8], warmup: 1, iterations: 20, threads: 1}
"""
HUNG_CODE = -999
_COMMAND_S = 120.0
_MARK = "TORTURE_HOME"


@dataclass
class Tally:
    """Verdicts of one class, a line for each that is bad, and what was not possible here."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, verdict: str, what: str, detail: str = "") -> None:
        self.counts[verdict] += 1
        if verdict in BAD:
            self.notes.append(f"{verdict}: {what}: {detail}"[:600])

    def skip(self, why: str) -> None:
        """Say once what cannot be tried here."""
        if why not in self.skipped:
            self.skipped.append(why)

    @property
    def bad(self) -> int:
        return sum(self.counts[name] for name in BAD)


@dataclass
class Ground:
    """Where a campaign runs.

    Attributes:
        home: its folder, with `model`, `engine`, `other` (of another model) and `openvino`.
        project: the checkout under test.
    """

    home: Path
    project: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(self.project),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(self.temporary),
            "COLUMNS": "300",  # tables cut nothing off
            _MARK: str(self.home),
        }
        return os.environ | own

    @property
    def where(self) -> dict[str, Any]:
        """Environment and working directory of everything under test."""
        return {"env": self.environment, "cwd": self.home}

    @property
    def temporary(self) -> Path:
        """The temporary directory of everything under test."""
        path = self.home / "tmp"
        path.mkdir(exist_ok=True)
        return path

    @property
    def recipe(self) -> Path:
        """Of a sweep that takes seconds."""
        path = self.home / "recipe.yaml"
        if not path.exists():
            path.write_text(RECIPE)
        return path

    def command(self, *arguments: Any) -> list[str]:
        return [sys.executable, "-m", "qdeploy", *map(str, arguments)]

    def run(
        self, *arguments: Any, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command line in a process of its own; exit code `HUNG_CODE` where it hung."""
        try:
            return subprocess.run(
                self.command(*arguments),
                env=self.environment | (variables or {}),
                cwd=self.home,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMMAND_S,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess([], HUNG_CODE, "", "")

    def processes(self) -> list[int]:
        """Numbers of the processes that this campaign started and that live."""
        mark, found = f"{_MARK}={self.home}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder for one run."""
        path = self.home / "run"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def make_ground(home: Path, project: Path, exported: Exports | None = None) -> Ground:
    """Make the tiny models and their engines, with the code under test.

    Args:
        exported: where that is this checkout's own code, exports of it, to be copied.
    """
    from tests.tiny import tiny_checkpoint

    home.mkdir(parents=True, exist_ok=True)
    ground = Ground(home, project)
    classes = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    models: dict[str, dict[str, Any]] = {"model": {}, "model2": {"seed": 7} | classes}
    for name, settings in models.items():
        checkpoint = home / f"{name}-checkpoint"
        if exported is not None:
            done = exported(**settings)
            shutil.copytree(done.checkpoint, checkpoint)
            shutil.copytree(done.model_dir, home / name)
        else:
            tiny_checkpoint(checkpoint, **settings)
            must(ground.run("export", checkpoint, home / name, "-q"))
    rows = ("--calibration-rows", 8, "-q")
    must(ground.run("build", home / "model", home / "engine", "--strategy", "peg", *rows))
    must(ground.run("build", home / "model2", home / "other", "--strategy", "peg", *rows))
    with contextlib.suppress(AssertionError):  # openvino is an extra
        openvino = ("--target", "openvino", "--strategy", "w8a8", *rows)
        must(ground.run("build", home / "model", home / "openvino", *openvino))
    return ground


def must(done: subprocess.CompletedProcess[str]) -> None:
    """An undisturbed command works; else the campaign would judge its own mistakes."""
    assert done.returncode == 0, done.stderr


def told(code: int, text: str, *names: str) -> str:
    """The verdict of a command by its exit code and standard error.

    Args:
        names: words of which a clear error holds one.
    """
    if code == HUNG_CODE:
        return HUNG
    if code == 0:
        return WORKED
    if code in (1, 2) and "Traceback" not in text and len(text.strip()) > 10:
        return CLEAR if not names or any(name in text for name in names) else UNEXPECTED
    return UNEXPECTED


def close_to(one: list[Any], other: list[Any], *, names: bool = True) -> bool:
    """Whether classes are the same, and scores but for rounding.

    Args:
        names: look at the classes' names too.
    """
    if len(one) != len(other):
        return False
    return all(
        abs(a - b) < 1e-4 if isinstance(a, float) and isinstance(b, float) else a == b or not names
        for a, b in zip(one, other, strict=True)
    )


def dice(seed: int, name: str) -> random.Random:
    """A generator of a class's own, so that classes do not depend on each other."""
    return random.Random(f"{seed}/{name}")
