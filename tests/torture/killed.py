"""Signals at random moments of every command, and what the next run finds."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.torture.ground import (
    CLEAR,
    HUNG,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WORKED,
    Ground,
    Tally,
    leftovers,
    snapshot,
)

_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_RECIPE = """trials:
  - strategy: [w8a8, peg]
calibration: {rows: 8}
accuracy: {limit: 8}
latency: {shapes: [1x8], warmup: 1, iterations: 20, threads: 1}
"""
_GRACE_S = 30.0


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands, each sent a signal; then the same command once more."""
    (ground.home / "recipe.yaml").write_text(_RECIPE)
    usual: dict[str, float] = {}
    for number in range(count):
        name = ("build", "force", "export", "calibrate", "eval", "sweep")[number % 6]
        with ground.folder() as folder:
            shutil.copytree(ground.home / "model", folder / "model")
            shutil.rmtree(folder / "model" / "statistics", ignore_errors=True)
            if name == "force":
                shutil.copytree(ground.home / "engine", folder / "out")
            command, output = _command(ground, folder, name)
            if name not in usual:
                began = time.monotonic()
                subprocess.run(command, **ground.where, capture_output=True)
                usual[name] = time.monotonic() - began
                _reset(ground, folder, name)
            sent = rng.choice(_SIGNALS)
            _one(ground, folder, name, command, output, sent, rng.random() * usual[name], tally)


def _command(ground: Ground, folder: Path, name: str) -> tuple[list[str], Path]:
    out, model = folder / "out", folder / "model"
    rows = ("--calibration-rows", 8, "-q")
    commands: dict[str, tuple[tuple[Any, ...], Path]] = {
        "build": (("build", model, out, "--strategy", "w8a8", *rows), out),
        "force": (("build", model, out, "--strategy", "w8a8", "--force", *rows), out),
        "export": (("export", ground.home / "model-checkpoint", out, "-q"), out),
        "calibrate": (("calibrate", model, "--rows", 8, "-q"), model / "statistics"),
        "eval": (
            (
                *("eval", ground.home / "engine", "--limit", 8, "--iterations", 20, "-q"),
                *("--seq-len", 16, "--warmup", 1, "--json", folder / "report.json"),
            ),
            folder / "report.json",
        ),
        "sweep": (("sweep", model, out, "--recipe", ground.home / "recipe.yaml", "-q"), out),
    }
    arguments, output = commands[name]
    return ground.command(*arguments), output


def _reset(ground: Ground, folder: Path, name: str) -> None:
    for path in (folder / "out", folder / "report.json", folder / "model" / "statistics"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if name == "force":
        shutil.copytree(ground.home / "engine", folder / "out")


def _one(
    ground: Ground,
    folder: Path,
    name: str,
    command: list[str],
    output: Path,
    sent: signal.Signals,
    after: float,
    tally: Tally,
) -> None:
    what = f"{name}, {sent.name} after {after:.1f} s"
    before = snapshot(output) if name == "force" else {}
    process = subprocess.Popen(
        command,
        **ground.where,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(after)
    process.send_signal(sent)
    try:
        _, text = process.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        tally.add(HUNG, what, f"{_GRACE_S:.0f} s after the signal")
        return
    allowed = {0, 2, 130, 143, -sent, 128 + sent}  # 0: it was done by then
    if process.returncode not in allowed or "Traceback" in text:
        tally.add(UNEXPECTED, what, f"exit {process.returncode}: {text[-300:]}")
        return
    if name == "sweep" and _children_live(folder):
        tally.add(LEFTOVER, what, "a trial goes on without its sweep")
        return
    if name == "force" and process.returncode and not _whole(output, before):
        tally.add(LOST, what, "the older engine is not whole")
        return
    if name in ("build", "export") and output.exists() and not (output / "qdeploy.json").is_file():
        tally.add(LOST, what, "half an output stands under its name")
        return
    again = subprocess.run(
        command + (["--force"] if name in ("build", "export") and output.exists() else []),
        **ground.where,
        capture_output=True,
        text=True,
    )
    if again.returncode:
        tally.add(UNEXPECTED, f"{what}, the next run", again.stderr[-300:])
    elif left := leftovers(folder, folder / "model", ground.temporary, output.parent):
        tally.add(LEFTOVER, what, ", ".join(left))
    else:
        tally.add(WORKED if process.returncode == 0 else CLEAR, what)


def _whole(output: Path, before: dict[str, bytes]) -> bool:
    """The older engine, or a newer one that is whole."""
    if not output.is_dir():
        return False
    now = snapshot(output)
    return now == before or {"qdeploy.json", "model.onnx", "plan.json"} <= set(now)


def _children_live(folder: Path) -> bool:
    """Whether a process that works in the folder lives on after some seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not _working_in(folder):
            return False
        time.sleep(0.2)
    return True


def _working_in(folder: Path) -> bool:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            if (
                b"qdeploy.sweep" in words
                and process.joinpath("status").read_text().split("State:")[1].strip()[0] not in "ZX"
            ):
                return True
        except OSError:
            continue
    return False
