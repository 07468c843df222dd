"""Signals at random moments of every command, and what the next run finds."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture import whole
from tests.torture.ground import (
    CLEAR,
    HUNG,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    must,
)

_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COMMANDS = ("build", "force", "export", "calibrate", "eval", "sweep")
_GRACE_S = 60.0  # a call into a library is not cut short
_CHILDREN_S = 5.0
_OLD_REPORT = '{"old": true}'


@dataclass
class _Usual:
    """A command that nobody disturbed.

    Attributes:
        seconds: how long it took.
        names: what then stood in its folder and in the temporary directory.
        graph: bytes of the output's `model.onnx`, where it has one.
    """

    seconds: float
    names: set[str]
    graph: bytes


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands, each sent a signal; then the same command once more."""
    began = time.monotonic()
    must(ground.run("--version"))
    startup = time.monotonic() - began
    usual: dict[str, _Usual] = {}
    for number in range(count):
        name = COMMANDS[number % len(COMMANDS)]
        if name not in usual:
            with ground.folder() as folder:
                usual[name] = _undisturbed(ground, folder, name)
        sent = _SIGNALS[(number + number // len(COMMANDS)) % len(_SIGNALS)]
        after = rng.uniform(0.5 * startup, usual[name].seconds)
        early = after < 1.5 * startup  # nobody listens yet
        with ground.folder() as folder:
            one = _Run(ground, folder, name, sent, usual[name], early)
            verdict, why = one.judged(after)
        tally.add(verdict, f"{name}, {sent.name} after {after:.1f} s", why)


def _prepare(ground: Ground, folder: Path, name: str) -> list[str]:
    """Inputs of a command in a folder, and its command line."""
    model, out, report = folder / "model", folder / "out", folder / "report.json"
    shutil.copytree(ground.home / "model", model)
    shutil.rmtree(model / "statistics", ignore_errors=True)
    (folder / "tmp").mkdir()
    if name == "force":
        shutil.copytree(ground.home / "other", out)
    if name == "eval":
        report.write_text(_OLD_REPORT)
    rows = ("--calibration-rows", 8, "-q")
    commands: dict[str, tuple[Any, ...]] = {
        "build": ("build", model, out, "--strategy", "w8a8", *rows),
        "force": ("build", model, out, "--strategy", "w8a8", "--force", *rows),
        "export": ("export", ground.home / "model-checkpoint", out, "-q"),
        "calibrate": ("calibrate", model, *rows),
        "eval": (
            *("eval", ground.home / "engine", "--limit", 8, "--iterations", 20, "-q"),
            *("--seq-len", 16, "--warmup", 1, "--json", report),
        ),
        "sweep": ("sweep", model, out, "--recipe", ground.recipe, "-q"),
    }
    return ground.command(*commands[name])


def _where(ground: Ground, folder: Path) -> dict[str, Any]:
    variables = ground.environment | {"TMPDIR": str(folder / "tmp")}
    return {"env": variables, "cwd": ground.home, "stderr": subprocess.PIPE, "text": True}


def _graph(folder: Path) -> bytes:
    path = folder / "out" / "model.onnx"
    return path.read_bytes() if path.is_file() else b""


def _undisturbed(ground: Ground, folder: Path, name: str) -> _Usual:
    command = _prepare(ground, folder, name)
    began = time.monotonic()
    must(subprocess.run(command, **_where(ground, folder), stdout=subprocess.DEVNULL))
    return _Usual(time.monotonic() - began, whole.names(folder), _graph(folder))


class _Run:
    """One command, its signal, and what is looked at then."""

    def __init__(
        self,
        ground: Ground,
        folder: Path,
        name: str,
        sent: signal.Signals,
        usual: _Usual,
        early: bool,
    ) -> None:
        self.ground, self.folder, self.name, self.sent = ground, folder, name, sent
        self.usual, self.early = usual, early
        self.command = _prepare(ground, folder, name)
        self.inputs, self.older = self._inputs(), whole.snapshot(folder / "out")

    def judged(self, after: float) -> tuple[str, str]:
        """The verdict, and why."""
        process = subprocess.Popen(
            self.command, **_where(self.ground, self.folder), stdout=subprocess.DEVNULL
        )
        time.sleep(after)
        process.send_signal(self.sent)
        try:
            _, text = process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return HUNG, f"{_GRACE_S:.0f} s after the signal"
        for found in (self._end(process.returncode, text), self._children(), self._stands()):
            if found is not None:
                return found
        return self._again() or (WORKED if process.returncode == 0 else CLEAR, "")

    def _end(self, code: int, text: str) -> tuple[str, str] | None:
        """Exit code and text: Ctrl-C and SIGTERM end alike, and what they say is true."""
        if code == 0 or self.sent == signal.SIGKILL:
            return None if code in (0, -self.sent) else (UNEXPECTED, f"exit {code}: {text[-300:]}")
        if self.early:  # Python's own end, whatever it says
            ends = (-self.sent, 128 + self.sent, 130, 1)
            return None if code in ends else (UNEXPECTED, f"exit {code}: {text[-300:]}")
        if code not in (130, 128 + self.sent) or "Traceback" in text or not text.strip():
            return UNEXPECTED, f"exit {code}: {text[-300:]}"
        kept = (self.folder / "out").exists() or (self.folder / "model" / "statistics").exists()
        if self.name != "force" and kept and "nothing was written" in text.lower():
            return WRONG, f"something stands there: {text[-200:]}"
        return None

    def _children(self) -> tuple[str, str] | None:
        """Whether a process that it started lives on after some seconds."""
        deadline = time.monotonic() + _CHILDREN_S
        while left := self.ground.processes():
            if time.monotonic() > deadline:
                return LEFTOVER, f"{len(left)} processes go on without it"
            time.sleep(0.2)
        return None

    def _stands(self) -> tuple[str, str] | None:
        """Whether what stands under a final name is whole, and the inputs as they were."""
        out = self.folder / "out"
        if self.inputs != self._inputs():
            return LOST, "an input is changed"
        if self.name == "force" and whole.snapshot(out) != self.older and not self._new():
            return LOST, "neither the older engine nor the new one stands there, whole"
        if self.name in ("build", "export") and out.exists() and not self._new():
            return LOST, "half an output stands under its name"
        if cut := whole.cut_files(self.folder):
            return LOST, f"cut: {', '.join(cut)}"
        return None

    def _again(self) -> tuple[str, str] | None:
        """The same command works, its output is right, and nothing else is left."""
        done_before = self.name in ("build", "export") and (self.folder / "out").exists()
        command = [*self.command, *(["--force"] if done_before else [])]
        try:
            again = subprocess.run(
                command,
                **_where(self.ground, self.folder),
                stdout=subprocess.DEVNULL,
                timeout=240,
            )
        except subprocess.TimeoutExpired:
            return HUNG, "the next run"
        if again.returncode:
            return UNEXPECTED, f"the next run: exit {again.returncode}: {again.stderr[-300:]}"
        if self.name in ("build", "force", "export") and not self._new():
            return WRONG, "the next run wrote something else than usual"
        if cut := whole.cut_files(self.folder):
            return LOST, f"cut after the next run: {', '.join(cut)}"
        found = whole.names(self.folder)
        if missing := self.usual.names - found:
            return WRONG, f"the next run did not write {', '.join(sorted(missing)[:4])}"
        if left := found - self.usual.names:
            return LEFTOVER, ", ".join(sorted(left)[:6])
        return None

    def _new(self) -> bool:
        """Whether the new output stands there, whole."""
        out = self.folder / "out"
        return whole.whole_directory(out) and _graph(self.folder) == self.usual.graph

    def _inputs(self) -> dict[str, bytes]:
        found = whole.snapshot(self.folder / "model")
        return {name: raw for name, raw in found.items() if "statistics" not in name}
