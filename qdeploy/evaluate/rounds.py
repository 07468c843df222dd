"""Timed runs of several engines in alternating rounds: so many of them, or as time allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qdeploy.errors import PlanError
from qdeploy.schemas.evaluation import Ran
from qdeploy.types import Array, Progress

Timer = Callable[[int, int], Array]  # (first run, runs) → ms of each, float64 [runs]

WARMUP, ITERATIONS = 100, 500  # at most, where none is named; those of arXiv 2603.04308
SECONDS = 30.0
# The least number of rounds, whatever the time: the smallest and the largest of six ratios enclose
# the true median with 97 % (1 - 2 · 2⁻⁶), those of five with 94 %.
LEAST_ROUNDS = 6
_ROUND = 10  # iterations of one engine before the other takes its turn
_WANTED_ROUNDS = 20  # fewer leave the bootstrap little to draw from
_WARMUP_SHARE = 0.1  # of the time


@dataclass(frozen=True)
class Pace:
    """How many runs are timed.

    Attributes:
        warmup: runs of each engine before; None: at most 100, and a tenth of the time.
        iterations: timed runs of each engine; None: at most 500, and as the time allows, but six
            at least.
        seconds: the time for all engines, which bounds what is None.
    """

    warmup: int | None = None
    iterations: int | None = None
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        for name, value, least in (("warmup", self.warmup, 0), ("iterations", self.iterations, 1)):
            if value is not None and value < least:
                raise PlanError(f"{name} is {value}, and at least {least} is needed.")
        if not self.seconds >= 0:
            raise PlanError(f"seconds is {self.seconds:g}, and 0 or more was expected.")


@dataclass(frozen=True)
class Timed:
    """What was run.

    Attributes:
        rounds: per engine, its rounds of times per run, float64 [runs] each, ms; as many of each.
        warmup: untimed runs of each engine; of the engine that had the fewest.
        seconds: that all of it took.
        ended_by_time: the time ended it, before 500 iterations.
    """

    rounds: list[list[Array]]
    warmup: int
    seconds: float
    ended_by_time: bool

    @property
    def iterations(self) -> int:
        """Timed runs of each engine."""
        return sum(map(len, self.rounds[0]))

    def to_json(self) -> Ran:
        """What was run, for a report: all but the times."""
        return {
            "warmup": self.warmup,
            "iterations": self.iterations,
            "seconds": round(self.seconds, 1),
            "ended_by_time": self.ended_by_time,
        }


def alternate(
    timers: Sequence[Timer], pace: Pace, progress: Progress | None = None, stage: str = "latency"
) -> Timed:
    """Time engines in alternating rounds of one process, so that all meet the same machine.

    Every second turn goes backwards, so that none is always the first after the other.

    Args:
        timers: one per engine.
        pace: how many runs.
        progress, stage: called as progress(stage, iterations done, iterations expected), and
            before that with the stage "STAGE, warm-up".
    """
    began = time.monotonic()
    warmup, cost = _warm_up(timers, pace, progress, f"{stage}, warm-up")
    started = time.monotonic()
    planned = pace.iterations or _affordable(pace.seconds - (started - began), cost)
    rounds: list[list[Array]] = [[] for _ in timers]
    done = 0
    for turn, runs in enumerate(_sizes(pace, planned)):
        now = time.monotonic()
        each = (now - started) / max(turn, 1)  # what a round takes
        if pace.iterations is None and turn >= LEAST_ROUNDS and now + each > began + pace.seconds:
            break
        places = range(len(timers)) if turn % 2 == 0 else reversed(range(len(timers)))
        for place in places:
            rounds[place].append(timers[place](done, runs))
        done += runs
        if progress:
            progress(stage, done, max(planned, done))
    if progress and done < planned:
        progress(stage, done, done)
    ended = pace.iterations is None and done < ITERATIONS
    return Timed(rounds, warmup, time.monotonic() - began, ended)


def _sizes(pace: Pace, planned: int) -> Iterator[int]:
    """Iterations of each round: all that were asked for, or up to the most."""
    if pace.iterations is not None:
        yield from round_sizes(pace.iterations)
        return
    size = round_sizes(planned)[0]
    for done in range(0, ITERATIONS, size):
        yield min(size, ITERATIONS - done)


def round_sizes(iterations: int) -> list[int]:
    """Iterations of each round: of ten, or shorter where that gives fewer than 20 rounds."""
    size = max(1, min(_ROUND, iterations // _WANTED_ROUNDS))
    full, rest = divmod(iterations, size)
    return [size] * full + ([rest] if rest else [])


def _warm_up(
    timers: Sequence[Timer], pace: Pace, progress: Progress | None, stage: str
) -> tuple[int, float | None]:
    """Untimed runs of each engine, and ms of one run of all of them; None where there was none."""
    most = WARMUP if pace.warmup is None else pace.warmup
    fewest, cost = most, 0.0
    for place, timer in enumerate(timers):
        end = time.monotonic() + _WARMUP_SHARE * pace.seconds / len(timers)
        runs, ms = 0, 0.0
        while runs < most:
            if pace.warmup is None and runs > 0 and time.monotonic() + ms / 1000 > end:
                break
            ms = float(timer(runs, 1)[0])
            runs += 1
            if progress and runs % _ROUND == 1:
                progress(stage, place * most + runs, len(timers) * most)
        fewest, cost = min(fewest, runs), cost + ms
    if progress and most:
        progress(stage, len(timers) * most, len(timers) * most)
    return fewest, cost if most else None


def _affordable(seconds: float, cost: float | None) -> int:
    """Iterations that fit into a time, by the cost of one, ms; from the least to the most."""
    if cost is None:
        return LEAST_ROUNDS
    return max(LEAST_ROUNDS, min(ITERATIONS, int(1000 * seconds / max(cost, 1e-6))))
