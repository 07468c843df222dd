"""Full disks: file systems of random sizes for outputs, temporary files, reports and sweeps."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.torture import whole
from tests.torture.ground import (
    CLEAR,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WRONG,
    Ground,
    Tally,
    told,
)

# The temporary directory comes twice: with work that needs little of it, and with a build.
PLACES = ("output", "force", "temporary", "scratch", "json", "html", "sweep", "statistics")
_OLD = {"json": '{"old": true}', "html": "<html>old</html>"}


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands on disks that are too small, then the same with room."""
    for number in range(count):
        place = PLACES[number % len(PLACES)]
        with ground.folder() as folder, _disk(folder / "disk") as disk:
            if disk is None:
                tally.skip("no file system can be mounted here")
                return
            # On a part of them there is no room at all, on others for nearly everything.
            free = rng.choice((0, rng.randrange(8), rng.randrange(64), rng.randrange(64, 240)))
            verdict, why = _one(ground, disk, place, free)
            tally.add(verdict, f"{place}, {free} kB free", why)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[Path | None]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield path if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def _command(ground: Ground, disk: Path, place: str) -> tuple[tuple[Any, ...], dict[str, str]]:
    """A command that writes to this place of the disk, and variables of its own."""
    model, out, engine = ground.home / "model", disk / "out", ground.home / "engine"
    evaluate = ("eval", engine, "--limit", 8, "--no-latency", "-q")
    build = ("build", model, out, "--strategy", "fp32", "-q")
    beside = disk.parent / "out"
    commands: dict[str, tuple[Any, ...]] = {
        "output": build,
        "force": (*build, "--force"),
        "temporary": evaluate,
        "scratch": ("build", model, beside, "--strategy", "w8a8", "--calibration-rows", 8, "-q"),
        "json": (*evaluate, "--json", disk / "old.json"),
        "html": (*evaluate, "--html", disk / "old.html"),
        "sweep": ("sweep", model, disk / "sw", "--recipe", ground.recipe, "-q"),
        "statistics": ("calibrate", disk / "model", "--calibration-rows", 8, "-q"),
    }
    variables = {"TMPDIR": str(disk)} if place in ("temporary", "scratch") else {}
    return commands[place], variables


def _prepare(ground: Ground, disk: Path, place: str) -> None:
    if place == "force":
        shutil.copytree(ground.home / "engine", disk / "out")
    elif place == "statistics":
        shutil.copytree(ground.home / "model", disk / "model")
        shutil.rmtree(disk / "model" / "statistics", ignore_errors=True)
    elif place in _OLD:
        (disk / f"old.{place}").write_text(_OLD[place])


def _one(ground: Ground, disk: Path, place: str, free_kb: int) -> tuple[str, str]:
    """The verdict, and why."""
    command, variables = _command(ground, disk, place)
    _prepare(ground, disk, place)
    before = whole.snapshot(disk)
    _fill(disk, free_kb)
    done = ground.run(*command, variables=variables)
    (disk / "fill").unlink()
    # Files whose reader would be misled, or that were there before.
    if lost := _lost(disk, before, replaced=done.returncode == 0):
        return LOST, f"exit {done.returncode}: {lost}"
    verdict = told(done.returncode, done.stderr, *_blamed(disk, place))
    if verdict not in (CLEAR, "worked"):
        return verdict, f"exit {done.returncode}: {done.stderr[-400:]}"
    if verdict == CLEAR:
        again = ground.run(*command, variables=variables)
        if again.returncode:
            return UNEXPECTED, f"with room again: {again.stderr[-300:]}"
        if lost := _lost(disk, before, replaced=True):
            return LOST, f"with room again: {lost}"
    if place in _OLD and (disk / f"old.{place}").read_text() == _OLD[place]:
        return WRONG, "exit 0, and the older report stands there"
    for out in (disk / "out", disk.parent / "out"):
        if out.exists() and not whole.whole_directory(out):
            return WRONG, "exit 0, and the output is not whole"
    if left := whole.hidden(disk):
        return LEFTOVER, ", ".join(left)
    return verdict, ""


def _lost(disk: Path, before: dict[str, bytes], *, replaced: bool) -> str:
    """What is gone, changed without need, or cut; empty where all is well.

    Args:
        replaced: the command says that it is done: an older output may be another one.
    """
    after = whole.snapshot(disk)
    if not replaced and any(after.get(name) != raw for name, raw in before.items()):
        return "what stood there is gone or changed"
    if replaced and any(name not in after for name in before if name.startswith("model/")):
        return "the model is gone"
    return ", ".join(whole.cut_files(disk))


def _fill(disk: Path, free_kb: int) -> None:
    """Fill a disk but for so much room."""
    free = shutil.disk_usage(disk).free - free_kb * 1024
    with (disk / "fill").open("wb") as stream:
        stream.write(bytes(max(free, 0)))


def _blamed(disk: Path, place: str) -> tuple[str, ...]:
    """What a clear error names: the disk, or the directory whose place it is."""
    if place in ("temporary", "scratch"):
        return (str(disk), "TMPDIR", "temporary")
    return (str(disk),)
