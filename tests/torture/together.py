"""Threads: one predictor used by eight at a time, on each CPU target."""

from __future__ import annotations

import random

from tests.torture.ground import UNEXPECTED, WORKED, WRONG, Ground, Tally, Worker, detail

_THREADS = 8


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` calls on each target."""
    del rng
    worker = Worker(ground)
    for target in ("engine", "openvino"):
        if not (ground.home / target).is_dir():
            continue
        reply = worker.call("threads", ground.home / target, _THREADS, count // _THREADS, limit=600)
        if "value" not in reply:
            tally.add(UNEXPECTED, target, detail(reply))
            continue
        for verdict, kind in ((WORKED, "right"), (WRONG, "wrong"), (UNEXPECTED, "failed")):
            for _ in range(reply["value"][kind]):
                tally.add(verdict, f"{target} in {_THREADS} threads")
    worker.close()
