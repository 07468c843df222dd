"""Traffic: latency at the data's own lengths, as a server and as a batch job meet them.

A fixed shape says what a row of so many tokens costs. A server pads rows to the longest of the
batch that they come in. A batch job sorts them by length first: then little is padding, whatever
the engine does about it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.batches import Batch, Encoded
from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.evaluate.latency import LatencyProtocol, ratio_of_medians
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.rounds import ITERATIONS, Timed, alternate
from qdeploy.figures import counted
from qdeploy.schemas.evaluation import GIVEN, SORTED, Order, Traffic, TrafficSpeed
from qdeploy.types import Array, Progress

BATCHES = (1, 8, 32)  # rows of a batch in the order given; the largest is also that of sorted rows
# Rows that are tokenized at most: 128 batches of 32 are more than run in the time.
_MOST_ROWS = 4096
# Rows times squared tokens of a batch at most, what attention holds per head: 8 rows of 1024.
# Only rows longer than usual come in smaller batches than asked for.
_PAIRS = 8 * 1024**2


@dataclass(frozen=True)
class Load:
    """One kind of traffic.

    Attributes:
        order: rows as they come, or sorted by length.
        batch_size: rows of a batch.
    """

    order: Order
    batch_size: int

    @property
    def stage(self) -> str:
        """What progress calls it."""
        rows = counted(self.batch_size, "row")
        return f"traffic, {rows}" if self.order == GIVEN else f"offline, {rows} sorted"


@dataclass(frozen=True)
class TrafficRuns:
    """What was run of one kind of traffic.

    Attributes:
        load: rows of a batch are fewer than were asked for where rows are very long.
        batches: how many different ones there were.
        tokens: int64 [rows], of the rows in them.
        places: tokens of all batches, padding among them.
        timed: the runs of each engine.
    """

    load: Load
    batches: int
    tokens: Array
    places: int
    timed: Timed


def loads_of(rows: int, batch_size: int, taken: tuple[int, int] = (1, sys.maxsize)) -> list[Load]:
    """The kinds of traffic that so many rows allow: batches of 1, 8, 32 and as many as were asked
    for, then sorted ones where there is anything to sort.

    Args:
        taken: the fewest and the most rows of a run that the engines take.

    >>> [f"{load.order} {load.batch_size}" for load in loads_of(12, 8)]
    ['given 1', 'given 8', 'given 12']
    >>> [f"{load.order} {load.batch_size}" for load in loads_of(500, 8, taken=(4, 16))]
    ['given 4', 'given 8', 'given 16', 'sorted 16']
    """
    least, most = taken
    sizes = sorted({min(max(size, least), most, rows) for size in (*BATCHES, batch_size)})
    loads = [Load(GIVEN, size) for size in sizes]
    largest = min(max(BATCHES), most)
    return [*loads, Load(SORTED, largest)] if rows > largest else loads


def measure_traffic(
    subjects: Sequence[LoadedEngine],
    rows: Rows,
    protocol: LatencyProtocol,
    *,
    max_length: int,
    seconds: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[TrafficRuns]:
    """Time engines in rounds that alternate, both on the same batches.

    Args:
        subjects: the engine, and its baseline if there is one.
        rows: as they come.
        protocol: rows of a batch, and how many runs.
        max_length: tokens kept of a row.
        seconds: of the time, for all kinds; what one leaves goes to the next.
        seed: of which batches are taken.
        progress: called as progress(stage of the load, iterations done, iterations expected).
    """
    limits = [subject.rows_taken for subject in subjects]
    taken = max(least for least, _ in limits), min(most for _, most in limits)
    loads = loads_of(len(rows), protocol.batch_size, taken)
    found: list[TrafficRuns] = []
    end = time.monotonic() + seconds
    for at, load in enumerate(loads):
        share = max(0.0, end - time.monotonic()) / (len(loads) - at)
        chosen = _chosen(rows, load, seed)
        encoded = [subject.encoder.encode(chosen, max_length) for subject in subjects]
        tokens = encoded[0].lengths
        size = max(1, min(load.batch_size, _PAIRS // int(tokens.max()) ** 2))
        real = Load(load.order, size)
        if any(one.load == real for one in found):  # very long rows: it would be the same again
            continue
        timers = [
            _Batches(subject.engine, subject.encoder, one, real, seed)
            for subject, one in zip(subjects, encoded, strict=True)
        ]
        timed = alternate(timers, protocol.pace(share), progress, load.stage)
        first = timers[0]
        found.append(
            TrafficRuns(real, len(first.batches), first.tokens(tokens), first.places, timed)
        )
    return found


def _chosen(rows: Rows, load: Load, seed: int) -> Rows:
    """Rows of whole batches, which are drawn; of sorted ones the rows are."""
    rng, size = np.random.default_rng(seed), load.batch_size
    if load.order == SORTED:
        # sorted batches stand for the whole set: their mean time is that of its batches
        # whole batches of drawn rows: a rest that is left out would be the shortest rows
        drawn = rng.permutation(len(rows))[: min(len(rows), _MOST_ROWS) // size * size]
        return rows.select([int(at) for at in np.sort(drawn)])
    most = min(ITERATIONS, max(1, _MOST_ROWS // size))
    starts = rng.permutation(np.arange(len(rows) // size) * size)[:most]
    return rows.select([int(start) + at for start in starts for at in range(size)])


class _Batches:
    """Runs of one engine on one batch after the other, with what a caller pays beside the run."""

    def __init__(
        self, engine: Engine, encoder: TextEncoder, encoded: Encoded, load: Load, seed: int
    ) -> None:
        self._engine = engine
        sort = load.order == SORTED
        batches = encoder.batches(encoded, load.batch_size, sort=sort)
        self.batches = list(_whole(batches, load.batch_size))
        # sorted ones in any order, or the time would end before the short ones
        if sort:
            order = np.random.default_rng(seed).permutation(len(self.batches))
            self.batches = [self.batches[at] for at in order]

    def tokens(self, lengths: Array) -> Array:
        """int64 [rows in batches], of all lengths [rows]."""
        found: Array = lengths[np.concatenate([batch.index for batch in self.batches])]
        return found

    @property
    def places(self) -> int:
        """Tokens of all batches, padding among them."""
        return sum(next(iter(batch.feeds.values())).size for batch in self.batches)

    def __call__(self, first: int, runs: int) -> Array:
        """Time runs, ms."""
        times = np.empty(runs)
        for at in range(runs):
            feeds = self.batches[(first + at) % len(self.batches)].feeds
            start = time.perf_counter_ns()
            self._engine.run(feeds)
            times[at] = time.perf_counter_ns() - start
        return times / 1e6


def _whole(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Without a last batch of fewer rows."""
    return (batch for batch in batches if len(batch.index) == size)


def about_traffic(found: TrafficRuns, seed: int) -> tuple[Traffic, TrafficSpeed | None]:
    """A section of the report's `traffic`, and the baseline's if there is one.

    `speedup` is the median of the ratios of single batches, both engines' on the same one.

    Args:
        seed: of the bootstrap.
    """
    rounds, size = found.timed.rounds, found.load.batch_size
    sections = [_speed(np.concatenate(times), size) for times in rounds]
    median, p95 = np.percentile(found.tokens, [50, 95], method="inverted_cdf")
    own: Traffic = {
        "order": found.load.order,
        "batch_size": size,
        "batches": found.batches,
        "padding": 1 - float(found.tokens.sum()) / found.places,
        "tokens": {"median": float(median), "p95": float(p95)},
        **found.timed.to_json(),
        **sections[0],
        "speedup": None,
    }
    if len(rounds) > 1:  # of each batch: between batches, lengths differ more than engines do
        ratios = [theirs / ours for ours, theirs in zip(*rounds, strict=True)]
        ratio, low, high = ratio_of_medians(ratios, [np.ones_like(r) for r in ratios], seed)
        own["speedup"] = {"ratio": ratio, "ci95": [low, high]}
    return own, sections[1] if len(rounds) > 1 else None


def _speed(times: Array, batch_size: int) -> TrafficSpeed:
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "latency_ms": {"p50": float(p50), "p95": float(p95)},
        "rows_per_s": 1000 * batch_size / float(times.mean()),
    }
