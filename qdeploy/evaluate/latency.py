"""Latency at one fixed shape, alone or in rounds that alternate with a baseline's."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.errors import PlanError
from qdeploy.evaluate.rounds import SECONDS, Pace, Timed, alternate
from qdeploy.machine.threads import check_threads, usable_cores
from qdeploy.schemas.evaluation import Latency
from qdeploy.types import Array, Progress

Feeds = Mapping[str, Array]

_RESAMPLES = 1000
_MANY_ROUNDS = 20  # fewer leave the bootstrap little to draw from
_LEVEL = 0.95
SEQ_LEN = 128  # tokens of a row of the fixed shape, where the engines take as many


@dataclass(frozen=True)
class LatencyProtocol:
    """How latency is measured.

    Attributes:
        batch_size, seq_len: the fixed shape [B, S]: rows and tokens; those of arXiv 2603.04308.
        warmup: runs of each engine that are not timed; None: at most 100, as time allows.
        iterations: runs of each engine that are; None: at most 500, as time allows.
        threads: threads of the engine.
        seconds: for all runs of all engines whose number is left open.
    """

    batch_size: int = 8
    seq_len: int = SEQ_LEN
    warmup: int | None = None
    iterations: int | None = None
    threads: int = field(default_factory=usable_cores)
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name, value in (("batch_size", self.batch_size), ("seq_len", self.seq_len)):
            if value < 1:
                raise PlanError(f"{name} is {value}, and at least 1 is needed.")
        self.pace(self.seconds)

    def pace(self, seconds: float) -> Pace:
        """How many runs, in a part of the time.

        Raises:
            PlanError: a number that is none.
        """
        return Pace(self.warmup, self.iterations, seconds)


def fixed_feeds(encoder: TextEncoder, rows: Rows, protocol: LatencyProtocol) -> dict[str, Array]:
    """Inputs of exactly [B, S] from real rows, repeated where there are fewer, without padding.

    Engines that leave padding out would not compute what others do. So texts are repeated until
    they fill the row.

    Raises:
        DataError: S is more than the model takes.
    """
    chosen = _filled(rows.select([at % len(rows) for at in range(protocol.batch_size)]), protocol)
    encoded = encoder.encode(chosen, protocol.seq_len)
    batches = encoder.batches(encoded, protocol.batch_size, sort=False, pad_to=protocol.seq_len)
    return next(batches).feeds


def _filled(rows: Rows, protocol: LatencyProtocol) -> Rows:
    """Rows of at least so many tokens: the last text of each stands in it as often as needed."""

    def fill(texts: tuple[str, ...]) -> tuple[str, ...]:
        # a word has a token at least
        return tuple(" ".join(protocol.seq_len * [text]) for text in texts)

    if rows.second is None:
        return replace(rows, first=fill(rows.first))
    return replace(rows, second=fill(rows.second))


def measure_alternating(
    engines: Sequence[tuple[Engine, Feeds]],
    protocol: LatencyProtocol,
    progress: Progress | None = None,
    *,
    seconds: float | None = None,
) -> Timed:
    """Time engines at one shape in alternating rounds (`qdeploy.evaluate.rounds`).

    Args:
        seconds: of the time, for this shape; None is all of it.
    """
    timers = [_Fixed(engine, feeds) for engine, feeds in engines]
    left = protocol.seconds if seconds is None else seconds
    return alternate(timers, protocol.pace(left), progress)


def summary(rounds: list[Array]) -> Latency:
    """p50, p90, p95, p99 (linear interpolation) and mean of all runs, ms."""
    times = np.concatenate(rounds)
    return {
        "p50": float(np.percentile(times, 50)),
        "p90": float(np.percentile(times, 90)),
        "p95": float(np.percentile(times, 95)),
        "p99": float(np.percentile(times, 99)),
        "mean": float(times.mean()),
    }


def median(rounds: list[Array]) -> float:
    """Median of all runs, ms."""
    return float(np.median(np.concatenate(rounds)))


def ratio_of_medians(
    baseline: list[Array], engine: list[Array], seed: int = 0
) -> tuple[float, float, float]:
    """Baseline's median over the engine's, with its 95 % interval.

    Whole rounds are drawn, both engines' together (bootstrap): runs of one round share the
    machine's mood, so that single runs are not independent. Fewer than 20 rounds are too few to
    draw from: there the interval is that of the median of the rounds' own ratios, by ranks (the
    binomial distribution; 95 % or more from six rounds on, and all that was seen below).

    Args:
        baseline, engine: rounds of `measure_alternating`, as many of each.
        seed: of the drawing.

    Returns:
        Ratio (above 1: the engine is faster), low, high.
    """
    ratio = median(baseline) / median(engine)
    rounds = len(engine)
    if rounds < _MANY_ROUNDS:
        pairs = zip(baseline, engine, strict=True)
        ratios = sorted(float(np.median(theirs) / np.median(own)) for theirs, own in pairs)
        skipped = ranks_left_out(rounds)
        return ratio, min(ratio, ratios[skipped]), max(ratio, ratios[-1 - skipped])
    counts = np.random.default_rng(seed).multinomial(rounds, [1 / rounds] * rounds, _RESAMPLES)
    drawn = medians_of_draws(baseline, counts) / medians_of_draws(engine, counts)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return ratio, float(low), float(high)


def ranks_left_out(count: int, level: float = _LEVEL) -> int:
    """How many of the smallest values, and of the largest, lie outside an interval of the median.

    >>> [ranks_left_out(count) for count in (5, 6, 8, 9, 15, 19)]
    [0, 0, 0, 1, 3, 4]
    """
    outside, left_out = 0.0, 0
    while True:
        outside += 2 * math.comb(count, left_out) / 2**count
        if outside > 1 - level or 2 * left_out + 1 >= count:
            return max(0, left_out - 1)
        left_out += 1


def medians_of_draws(rounds: list[Array], counts: Array) -> Array:
    """Median of all runs of each draw, without building the draws: by cumulative counts.

    Args:
        rounds: R rounds of times, ms.
        counts: int [draws, R], how often a draw holds each round.

    Returns:
        float64 [draws], ms.
    """
    times = np.concatenate(rounds)
    order = np.argsort(times)
    owner = np.repeat(np.arange(len(rounds)), [len(r) for r in rounds])[order]
    upto = np.cumsum(counts[:, owner], axis=1)
    total = upto[:, -1:]
    lower = np.argmax(upto > (total - 1) // 2, axis=1)
    upper = np.argmax(upto > total // 2, axis=1)
    medians: Array = (times[order][lower] + times[order][upper]) / 2
    return medians


class _Fixed:
    """Runs of one engine on the same inputs.

    Engines of a GPU run on inputs that lie there already (`bind`).
    """

    def __init__(self, engine: Engine, feeds: Feeds) -> None:
        self._run, self._engine = engine.bind(feeds), engine

    def __call__(self, _: int, runs: int) -> Array:
        """Time runs, ms."""
        times = np.empty(runs)
        for at in range(runs):
            start = time.perf_counter_ns()
            self._run()
            times[at] = time.perf_counter_ns() - start
            self._engine.read_clock()
        return times / 1e6
