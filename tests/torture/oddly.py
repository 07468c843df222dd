"""Paths that are no plain path: loops of links, links to nowhere, devices, a removed directory."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

from tests.torture import named
from tests.torture.calls import Worker
from tests.torture.ground import HUNG_CODE, LOST, WORKED, WRONG, Ground, Tally, told

KINDS = ("loop", "dangling", "link", "gone", "file", "nul", "long", "fifo", "closed", "nested")


def odd(ground: Ground, worker: Worker, folder: Path, rng: random.Random, tally: Tally) -> None:
    """One command with one odd path, in each of its places."""
    kind = rng.choice(KINDS)
    if kind == "gone":
        _gone(ground, folder, tally)
        return
    path = _odd_path(ground, folder, kind)
    target = folder / "target"
    for arguments in (
        ("build", ground.home / "model", path, "--strategy", "fp32", "--force", "-q"),
        ("eval", path, "--no-latency", "-q"),
        ("inspect", path, "-q"),
        ("eval", ground.home / "engine", "--data", path, "--no-latency", "-q"),
        ("build", path, folder / "out", "--strategy", "fp32", "-q"),
    ):
        what = f"{kind}: {arguments[0]} {'--data' if '--data' in arguments else ''}"
        verdict, why = named.judged(worker.call("cli", *arguments, limit=20), path.name)
        if kind == "link" and not (target / "notes.txt").is_file():
            verdict, why = LOST, "a file behind the link"
        if kind == "file" and path.read_text() != "mine":
            verdict, why = LOST, "a file in the place of the output"
        if verdict == WORKED and kind not in ("link", "closed"):
            verdict, why = WRONG, "exit 0"
        tally.add(verdict, what, why)
        if verdict == LOST:
            return


def _odd_path(ground: Ground, folder: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "loop":
        path.symlink_to("other")
        (folder / "other").symlink_to(kind)
    elif kind == "dangling":
        path.symlink_to(folder / "nowhere" / "at" / "all")
    elif kind == "link":
        target = folder / "target"
        shutil.copytree(ground.home / "engine", target)
        (target / "notes.txt").write_text("mine")
        path.symlink_to(target)
    elif kind == "file":
        path.write_text("mine")
    elif kind == "nul":
        path = Path(f"{folder}/a\0b")
    elif kind == "long":
        path = folder / "/".join(["x" * 200] * 30)
    elif kind == "fifo":
        subprocess.run(["mkfifo", path], check=True)
    elif kind == "nested":  # the output inside a file
        (folder / "plain").write_text("mine")
        path = folder / "plain" / "out"
    else:  # a directory that nothing may be read from; root may all the same
        path.mkdir(mode=0o000)
    return path


def _gone(ground: Ground, folder: Path, tally: Tally) -> None:
    """Commands in a working directory that was removed."""
    here = folder / "here"
    script = f'cd "{here}" && rmdir "{here}" && exec "$0" "$@"'
    for arguments in (
        ("build", ground.home / "model", "out", "--strategy", "fp32", "-q"),
        ("eval", ground.home / "engine", "--no-latency", "--limit", 8, "-q"),
        ("inspect", "engine", "-q"),
    ):
        here.mkdir(exist_ok=True)
        try:
            done = subprocess.run(
                ["sh", "-c", script, *ground.command(*arguments)],
                env=ground.environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            code, text = done.returncode, done.stderr
        except subprocess.TimeoutExpired:
            code, text = HUNG_CODE, ""
        tally.add(told(code, text), f"removed working directory: {arguments[0]}", text[-300:])
