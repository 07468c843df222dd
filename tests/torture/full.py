"""Full disks: file systems of random sizes for the output, temporary files, reports and sweeps."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.torture.ground import (
    CLEAR,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    Ground,
    Tally,
    leftovers,
    snapshot,
    told,
)
from tests.torture.killed import _RECIPE

_PLACES = ("output", "force", "temporary", "json", "sweep", "statistics")


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands on disks that are too small, then the same with room."""
    (ground.home / "recipe.yaml").write_text(_RECIPE)
    size = sum(p.stat().st_size for p in (ground.home / "engine").iterdir()) // 1024
    for number in range(count):
        place = _PLACES[number % len(_PLACES)]
        with ground.folder() as folder, _disk(folder / "disk") as disk:
            if disk is None:
                return  # no file system can be mounted here: nothing was tried
            _one(ground, folder, disk, place, rng.randrange(8, max(size, 100)), tally)


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


def _one(ground: Ground, folder: Path, disk: Path, place: str, free_kb: int, tally: Tally) -> None:
    what = f"{place}, {free_kb} kB free"
    variables: dict[str, str] = {}
    model = ground.home / "model"
    build = ("build", model, disk / "out", "--strategy", "fp32", "-q")
    if place == "output":
        command: tuple[object, ...] = build
    elif place == "force":
        shutil.copytree(ground.home / "engine", disk / "out")
        command = (*build, "--force")
    elif place == "temporary":
        variables = {"TMPDIR": str(disk)}
        command = ("eval", ground.home / "engine", "--limit", 8, "--no-latency", "-q")
    elif place == "json":
        (disk / "report.json").write_text('{"old": true}')
        command = (
            *("eval", ground.home / "engine", "--limit", 8, "--no-latency", "-q"),
            *("--json", disk / "report.json"),
        )
        free_kb %= 8
    elif place == "sweep":
        command = ("sweep", model, disk / "sw", "--recipe", ground.home / "recipe.yaml", "-q")
    else:
        shutil.copytree(model, disk / "model")
        shutil.rmtree(disk / "model" / "statistics", ignore_errors=True)
        command = ("calibrate", disk / "model", "--rows", 8, "-q")
    before = snapshot(disk)
    _fill(disk, free_kb)
    done = ground.run(*command, variables=variables)
    verdict = told(done.returncode, done.stderr)
    text = done.stderr[-300:]
    (disk / "fill").unlink()
    if verdict == CLEAR and not _blames(done.stderr, disk):
        verdict, text = UNEXPECTED, f"another place is blamed: {text}"
    if verdict == CLEAR and place in ("force", "json"):
        kept = {name: content for name, content in snapshot(disk).items() if name in before}
        if kept != before:
            verdict, text = LOST, "what stood there is not whole"
    if place == "json" and verdict != UNEXPECTED:
        try:
            json.loads((disk / "report.json").read_text())
        except ValueError:
            verdict, text = LOST, "half a report stands under its name"
    if verdict == CLEAR:
        again = ground.run(*command, variables=variables)
        if again.returncode:
            verdict, text = UNEXPECTED, f"with room again: {again.stderr[-300:]}"
        elif left := leftovers(disk):
            verdict, text = LEFTOVER, ", ".join(left)
    tally.add(verdict, what, text)


def _fill(disk: Path, free_kb: int) -> None:
    free = shutil.disk_usage(disk).free - free_kb * 1024
    with (disk / "fill").open("wb") as stream:
        stream.write(bytes(max(free, 0)))


def _blames(text: str, disk: Path) -> bool:
    """Whether a full disk is said, or at least the place on it."""
    return "full" in text or "space" in text.lower() or str(disk) in text
