"""Threads: one predictor used by eight at a time, on each CPU target."""

from __future__ import annotations

import random

from tests.torture.calls import Worker, detail
from tests.torture.ground import UNEXPECTED, WORKED, WRONG, Ground, Tally

_THREADS = 8


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` calls on each target; answers are those of one thread, to the bit."""
    del rng
    for target, folder in (("ort-cpu", "engine"), ("openvino", "openvino")):
        if not (ground.home / folder).is_dir():
            tally.skip(f"{target} is not installed")
            continue
        worker = Worker(ground)  # a crash of one is none of the other
        calls = count // _THREADS
        reply = worker.call("threads", ground.home / folder, _THREADS, calls, limit=600)
        worker.close()
        what = f"{target} in {_THREADS} threads"
        if "value" not in reply:
            for _ in range(count):  # nobody got an answer
                tally.add(UNEXPECTED, what, detail(reply))
            continue
        for verdict, kind in ((WORKED, "right"), (WRONG, "wrong"), (UNEXPECTED, "failed")):
            for _ in range(reply["value"][kind]):
                tally.add(verdict, what, reply["value"]["error"])
