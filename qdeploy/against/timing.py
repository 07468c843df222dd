"""How fast the files of a comparison are: runs at one shape that alternate, as in `eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qdeploy.against.options import AgainstOptions
from qdeploy.data.rows import Rows
from qdeploy.evaluate.latency import (
    SEQ_LEN,
    LatencyProtocol,
    fixed_feeds,
    measure_alternating,
    summary,
)
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.report import about_speedup
from qdeploy.schemas.comparison import Timing
from qdeploy.schemas.evaluation import Latency, Speedup
from qdeploy.types import Progress

_SECONDS = 20.0  # for all files


@dataclass(frozen=True)
class Timed:
    """Times of each file, in order; the first is FP32, which others are held against."""

    protocol: Timing
    latencies: list[Latency]
    speedups: list[Speedup | None]


def time_all(
    subjects: Sequence[LoadedEngine],
    rows: Rows,
    asked: AgainstOptions,
    threads: int,
    progress: Progress | None,
) -> Timed:
    """Time every file on rows that fill the shape."""
    first = subjects[0]
    protocol = LatencyProtocol(
        asked.batch_size, min(SEQ_LEN, first.longest), threads=threads, seconds=_SECONDS
    )
    if first.encoder.one_text:
        rows = rows.singles()
    feeds = fixed_feeds(first.encoder, rows.sample(protocol.batch_size, asked.seed), protocol)
    timed = measure_alternating([(one.engine, feeds) for one in subjects], protocol, progress)
    rounds = timed.rounds
    speedups: list[Speedup | None] = [None]
    speedups += [about_speedup(own, rounds[0], asked.seed) for own in rounds[1:]]
    return Timed(
        {
            "batch_size": protocol.batch_size,
            "seq_len": protocol.seq_len,
            "threads": threads,
            "iterations": timed.iterations,
        },
        [summary(own) for own in rounds],
        speedups,
    )
