"""Latency at the data's own lengths: batches of rows as they come, padded to the longest in each.

A fixed shape says what a row of so many tokens costs. Texts of 10 tokens cost other kernels, and
gain another factor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.batches import Encoded
from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.evaluate.latency import LatencyProtocol, ratio_of_medians
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.rounds import ITERATIONS, Timed, alternate
from qdeploy.schemas.evaluation import OwnLatency, OwnLengths
from qdeploy.types import Array, Progress

STAGE = "latency at own lengths"
# Rows times squared tokens of a batch at most, what attention holds per head: 8 rows of 1024.
# Only rows longer than usual come in smaller batches than asked for.
_PAIRS = 8 * 1024**2


@dataclass(frozen=True)
class OwnLengthRuns:
    """What was run at the data's own lengths.

    Attributes:
        batch_size: rows of a batch.
        batches: how many different ones there were.
        tokens: int64 [rows], of the rows in them.
        timed: the runs of each engine.
    """

    batch_size: int
    batches: int
    tokens: Array
    timed: Timed


def measure_own_lengths(
    subjects: Sequence[LoadedEngine],
    rows: Rows,
    protocol: LatencyProtocol,
    *,
    max_length: int,
    seconds: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> OwnLengthRuns:
    """Time engines in rounds that alternate, both on the same batches.

    Args:
        subjects: the engine, and its baseline if there is one.
        rows: as they come; which batches are taken is drawn, 500 at most.
        protocol: rows of a batch, and how many runs.
        max_length: tokens kept of a row.
        seconds: of the time, for these runs.
        seed: of the drawing.
        progress: called as progress(STAGE, iterations done, iterations expected).
    """
    size = min(protocol.batch_size, len(rows))
    starts = np.arange(len(rows) // size) * size
    drawn = np.random.default_rng(seed).permutation(starts)[:ITERATIONS]
    some = rows.select([int(start) + at for start in drawn for at in range(size)])
    encoded = [subject.encoder.encode(some, max_length) for subject in subjects]
    tokens = encoded[0].lengths
    size = max(1, min(size, _PAIRS // int(tokens.max()) ** 2))
    timers = [
        _Own(subject.engine, subject.encoder, found, size)
        for subject, found in zip(subjects, encoded, strict=True)
    ]
    timed = alternate(timers, protocol.pace(seconds), progress, STAGE)
    return OwnLengthRuns(size, len(timers[0].feeds), tokens, timed)


class _Own:
    """Runs of one engine on one batch after the other, with what a caller pays beside the run."""

    def __init__(self, engine: Engine, encoder: TextEncoder, encoded: Encoded, size: int) -> None:
        self._engine = engine
        batches = encoder.batches(encoded, size, sort=False)
        self.feeds = [batch.feeds for batch in batches if len(batch.index) == size]

    def __call__(self, first: int, runs: int) -> Array:
        """Time runs, ms."""
        times = np.empty(runs)
        for at in range(runs):
            feeds = self.feeds[(first + at) % len(self.feeds)]
            start = time.perf_counter_ns()
            self._engine.run(feeds)
            times[at] = time.perf_counter_ns() - start
        return times / 1e6


def about_own_lengths(found: OwnLengthRuns, seed: int) -> tuple[OwnLengths, OwnLatency | None]:
    """The report's `own_lengths` of the engine, and of its baseline if there is one.

    `speedup` is the median of the ratios of single batches, both engines' on the same one.

    Args:
        seed: of the bootstrap.
    """
    rounds = found.timed.rounds
    sections = [_speed(np.concatenate(times), found.batch_size) for times in rounds]
    median, p95 = np.percentile(found.tokens, [50, 95], method="inverted_cdf")
    own: OwnLengths = {
        "batch_size": found.batch_size,
        "batches": found.batches,
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


def _speed(times: Array, batch_size: int) -> OwnLatency:
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "latency_ms": {"p50": float(p50), "p95": float(p95)},
        "rows_per_s": 1000 * batch_size / float(times.mean()),
    }
