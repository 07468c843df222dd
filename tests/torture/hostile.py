"""Hostile ONNX files for `inspect`, and as the graph of a model and of an engine."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.torture import whole
from tests.torture.calls import Worker, detail, replied
from tests.torture.ground import (
    CLEAR,
    HUNG,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
)
from tests.torture.hostile_files import CANARY, KINDS, OUTSIDE, hostile_files

__all__ = ["KINDS", "OUTSIDE", "hostile_files", "judged", "run"]

_CPU_S, _MEMORY_MB = 10.0, 2000
_WALL_S = 25.0  # on a busy machine; who waits for a FIFO takes no processor's time


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` files."""
    if not whole.atime_moves(ground.home):
        tally.skip("whether a file outside was read: this file system keeps no time of access")
    worker = Worker(ground)
    with ground.folder() as folder:
        files = hostile_files(folder, rng.randrange(2**32), count)
        for kind, path in files:
            use = rng.choice(("inspect", "inspect", "build", "answers"))
            arguments = _arguments(ground, use, path)
            canary = whole.watched(path.parent.parent / "canary", CANARY * 50)
            reply = worker.call(use, *arguments, limit=_WALL_S)
            shutil.rmtree(path.parent.parent / "out", ignore_errors=True)
            verdict, why = judged(kind, reply, path)
            if whole.was_read(canary):
                verdict, why = LOST, "the file outside was read"
            elif CANARY.decode() in json.dumps(reply):
                verdict, why = LOST, "bytes of the file outside are in the answer"
            tally.add(verdict, f"{use}: {kind}", why)
            if verdict == HUNG or reply.get("peak_mb", 0) > _MEMORY_MB // 2:
                worker.close()  # the next one is judged by its own memory
    worker.close()


def judged(kind: str, reply: dict[str, Any], path: Path) -> tuple[str, str]:
    """The verdict of a call, and why."""
    directory = path.parent
    names = (str(directory), path.name, "weights.data")
    verdict, why = replied(reply, *names), detail(reply)
    if "died" in reply:
        return UNEXPECTED, f"the process died ({reply['died']})"
    if reply.get("peak_mb", 0) > _MEMORY_MB:
        return UNEXPECTED, f"{reply['peak_mb']} MB of memory"
    if reply.get("cpu_s", 0) > _CPU_S:
        return HUNG, f"{reply['cpu_s']:.0f} s of processor time"
    if verdict == WORKED and kind in OUTSIDE:
        return WRONG, "what is not in the directory is taken for a part of it"
    if verdict == CLEAR and len(reply["text"]) > 5000:
        return UNEXPECTED, f"an error of {len(reply['text'])} characters"
    return verdict, why


def _arguments(ground: Ground, use: str, path: Path) -> tuple[Any, ...]:
    """The file for `inspect`; for others it is put into a directory that says it is its graph."""
    if use == "inspect":
        return (path,)
    directory = path.parent
    source = ground.home / ("model" if use == "build" else "engine")
    for beside in source.iterdir():
        if beside.is_file() and beside.name != "model.onnx":
            shutil.copy(beside, directory)
    _list(directory)
    return (directory, directory.parent / "out", "fp32") if use == "build" else (directory,)


def _list(directory: Path) -> None:
    """Put the graph, and weights beside it, into the manifest."""
    for name in ("model.onnx", "weights.data"):
        path = directory / name
        if name == "model.onnx" or path.is_symlink() or path.exists():
            whole.sign(path)
