"""Latency at one fixed shape, alone or in rounds that alternate with a baseline's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.errors import PlanError
from qdeploy.threads import check_threads

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Progress = Callable[[str, int, int], None]

_ROUND = 10  # iterations of one engine before the other takes its turn
_LEAST_ROUNDS = 20  # fewer leave the bootstrap little to draw from
_RESAMPLES = 1000


@dataclass(frozen=True)
class LatencyProtocol:
    """How latency is measured; the defaults are those of arXiv 2603.04308.

    Attributes:
        batch_size, seq_len: the fixed shape [B, S]: rows and tokens.
        warmup: runs that are not timed, per engine.
        iterations: runs that are, per engine.
        threads: threads of the engine.
    """

    batch_size: int = 8
    seq_len: int = 128
    warmup: int = 100
    iterations: int = 500
    threads: int = 2

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name, value in asdict(self).items():
            least = 0 if name == "warmup" else 1
            if value < least:
                raise PlanError(f"{name} is {value}, and at least {least} is needed.")

    def round_sizes(self) -> list[int]:
        """Iterations of each round: of ten, or shorter where that gives fewer than 20 rounds."""
        size = max(1, min(_ROUND, self.iterations // _LEAST_ROUNDS))
        full, rest = divmod(self.iterations, size)
        return [size] * full + ([rest] if rest else [])


def fixed_feeds(encoder: TextEncoder, rows: Rows, protocol: LatencyProtocol) -> dict[str, Array]:
    """Inputs of exactly [B, S] from real rows, repeated where there are fewer, padded to S.

    Raises:
        DataError: S is more than the model takes.
    """
    chosen = rows.select([at % len(rows) for at in range(protocol.batch_size)])
    encoded = encoder.encode(chosen, protocol.seq_len)
    batches = encoder.batches(encoded, protocol.batch_size, sort=False, pad_to=protocol.seq_len)
    return next(batches).feeds


def measure_alternating(
    engines: Sequence[tuple[Engine, Feeds]],
    protocol: LatencyProtocol,
    progress: Progress | None = None,
) -> list[list[Array]]:
    """Time engines in alternating rounds of one process, so that all meet the same machine.

    Every second turn goes backwards, so that none is always the first after the other.

    Returns:
        Per engine, its rounds of times per run, float64 [runs] each, ms.
    """
    _warm_up(engines, protocol.warmup, progress)
    times: list[list[Array]] = [[] for _ in engines]
    done = 0
    for turn, runs in enumerate(protocol.round_sizes()):
        places = range(len(engines)) if turn % 2 == 0 else reversed(range(len(engines)))
        for place in places:
            times[place].append(_time(*engines[place], runs))
        done += runs
        if progress:
            progress("latency", done, protocol.iterations)
    return times


def _warm_up(engines: Sequence[tuple[Engine, Feeds]], runs: int, progress: Progress | None) -> None:
    """Run each engine untimed, by the round, so that progress is seen."""
    total = runs * len(engines)
    for at, (engine, feeds) in enumerate(engines):
        for done in range(0, runs, _ROUND):
            if progress:
                progress("warm-up", at * runs + done, total)
            _time(engine, feeds, min(_ROUND, runs - done))
    if progress and total:
        progress("warm-up", total, total)


def summary(rounds: list[Array]) -> dict[str, float]:
    """p50, p90, p95, p99 (linear interpolation) and mean of all runs, ms."""
    times = np.concatenate(rounds)
    found = {f"p{p}": float(np.percentile(times, p)) for p in (50, 90, 95, 99)}
    return found | {"mean": float(times.mean())}


def median(rounds: list[Array]) -> float:
    """Median of all runs, ms."""
    return float(np.median(np.concatenate(rounds)))


def ratio_of_medians(
    baseline: list[Array], engine: list[Array], seed: int = 0
) -> tuple[float, float, float]:
    """Baseline's median over the engine's, with its 95 % bootstrap interval.

    Whole rounds are drawn, both engines' together: runs of one round share the machine's mood, so
    that single runs are not independent.

    Args:
        baseline, engine: rounds of `measure_alternating`, as many of each.
        seed: of the drawing.

    Returns:
        Ratio (above 1: the engine is faster), low, high.
    """
    ratio = median(baseline) / median(engine)
    rounds = len(engine)
    counts = np.random.default_rng(seed).multinomial(rounds, [1 / rounds] * rounds, _RESAMPLES)
    drawn = medians_of_draws(baseline, counts) / medians_of_draws(engine, counts)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return ratio, float(low), float(high)


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


def _time(engine: Engine, feeds: Feeds, runs: int) -> Array:
    """Time runs, ms. Engines of a GPU run on inputs that lie there already (`bind`)."""
    bind = getattr(engine, "bind", None)
    run = (lambda: engine.run(feeds)) if bind is None else bind(feeds)
    read_clock = getattr(engine, "read_clock", None)  # that of the device
    times = np.empty(runs)
    for at in range(runs):
        start = time.perf_counter_ns()
        run()
        times[at] = time.perf_counter_ns() - start
        if read_clock is not None:
            read_clock()
    return times / 1e6
