"""What every class of the campaign stands on: verdicts, workers, commands, and a tiny model."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKED, CLEAR, LEFTOVER, LOST = "worked", "clear", "leftover", "lost"
WRONG, UNEXPECTED, HUNG = "wrong", "unexpected", "hung"
VERDICTS = (WORKED, CLEAR, LEFTOVER, LOST, WRONG, UNEXPECTED, HUNG)
BAD = (LEFTOVER, LOST, WRONG, UNEXPECTED, HUNG)
ERROR = "qdeploy.errors.QDeployError"
_COMMAND_S = 120.0


@dataclass
class Tally:
    """Verdicts of one class, and a line for each that is bad."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, verdict: str, what: str, detail: str = "") -> None:
        self.counts[verdict] += 1
        if verdict in BAD:
            self.notes.append(f"{verdict}: {what}: {detail}"[:600])


class Worker:
    """A `worker.py` that is started again when it dies or hangs."""

    def __init__(self, ground: Ground, **variables: str) -> None:
        self._ground, self._variables = ground, variables
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, name: str, *arguments: Any, limit: float = 60.0) -> dict[str, Any]:
        """The reply to a call; {"hung"} or {"died": exit code} where none came."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        line = json.dumps([name, [_plain(a) for a in arguments]]) + "\n"
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], limit)
            reply = process.stdout.readline() if ready else None
        except BrokenPipeError:
            reply = b""
        if reply:
            found: dict[str, Any] = json.loads(reply)
            return found
        self.close()
        return {"hung": limit} if reply is None else {"died": process.returncode}

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            env=self._ground.environment | self._variables,
            cwd=self._ground.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


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

    def command(self, *arguments: Any) -> list[str]:
        return [sys.executable, "-m", "qdeploy", *map(str, arguments)]

    def run(
        self, *arguments: Any, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command line in a process of its own; exit code -999 where it hung."""
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
            return subprocess.CompletedProcess([], -999, "", "")

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


def make_ground(home: Path, project: Path) -> Ground:
    """Make the tiny models and their engines, with the code under test."""
    from tests.tiny import tiny_checkpoint

    home.mkdir(parents=True, exist_ok=True)
    ground = Ground(home, project)
    classes: dict[str, Any] = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    for name, seed, other in (("model", 0, {}), ("model2", 7, classes)):
        tiny_checkpoint(home / f"{name}-checkpoint", "bert", seed=seed, **other)
        _must(ground.run("export", home / f"{name}-checkpoint", home / name, "-q"))
    rows = ("--calibration-rows", 8, "-q")
    _must(ground.run("build", home / "model", home / "engine", "--strategy", "peg", *rows))
    _must(ground.run("build", home / "model2", home / "other", "--strategy", "peg", *rows))
    with contextlib.suppress(AssertionError):  # openvino is an extra
        openvino = ("--target", "openvino", "--strategy", "w8a8", *rows)
        _must(ground.run("build", home / "model", home / "openvino", *openvino))
    return ground


def _must(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def told(code: int, text: str) -> str:
    """The verdict of a command by its exit code and standard error."""
    if code == -999:
        return HUNG
    if code == 0:
        return WORKED
    if code in (1, 2) and "Traceback" not in text:
        return CLEAR if len(text.strip()) > 10 else UNEXPECTED
    return UNEXPECTED


def replied(reply: dict[str, Any], *names: str) -> str:
    """The verdict of a worker's reply, its value not looked at.

    Args:
        names: words of which a clear error holds one.
    """
    if "hung" in reply:
        return HUNG
    if "value" in reply:
        return WORKED
    if ERROR in reply.get("classes", ()) and (
        not names or any(name in reply["text"] for name in names)
    ):
        return CLEAR
    return UNEXPECTED


def detail(reply: dict[str, Any]) -> str:
    return str(reply.get("text") or reply)[-300:] + str(reply.get("classes", [""])[0])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Names and contents of all files below a folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def leftovers(*folders: Path) -> list[str]:
    """Hidden and temporary files that runs left in folders."""
    found = []
    for folder in folders:
        for path in folder.iterdir():
            name = path.name
            if ".partial" in name or ".lease" in name or name.startswith(("qdeploy-", ".qdeploy-")):
                found.append(name)
    return found


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


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def dice(seed: int, name: str) -> random.Random:
    """A generator of a class's own, so that classes do not depend on each other."""
    return random.Random(f"{seed}/{name}")
