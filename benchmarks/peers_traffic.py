"""Traffic: rows of QNLI's dev set at their own lengths, as a server and as a batch job run them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runners import Runner  # benchmarks/runners.py

from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder

# Rows of a batch, and how many batches of them are run.
IN_ORDER = {1: 40, 8: 16, 32: 6}
OFFLINE = {32: 8}
ROUNDS = 4
TOKENS = 128  # of a row of QNLI at most


def traffic(
    model: Path, opened: Mapping[str, Runner], data: Path, runs: int
) -> list[dict[str, Any]]:
    """Times of each engine, all interleaved, measured anew in each of so many runs.

    Returns:
        Of each run
        "1", "8", "32": batches in the order given, padded to the longest row, of each engine
        {"p50", "p95": ms of a batch, "rows_per_s"}; "offline": the same of rows sorted by length,
        what every engine can do about padding by itself; "padding": share of the tokens.
    """
    encoder = TextEncoder.from_directory(model)
    return [_one_run(encoder, opened, data) for _ in range(runs)]


def _one_run(encoder: TextEncoder, opened: Mapping[str, Runner], data: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"padding": {}}
    for plan, sort in ((IN_ORDER, False), (OFFLINE, True)):
        for size, count in plan.items():
            rows = read_rows(data, split="evaluation").take(size * count)
            encoded = encoder.encode(rows, max_length=TOKENS)
            batches = [b.feeds for b in encoder.batches(encoded, size, sort=sort)]
            name = "offline" if sort else str(size)
            places = sum(feeds["input_ids"].size for feeds in batches)
            share = 1 - float(encoded.lengths.sum()) / places
            found["padding"][name] = round(share, 3)
            found[name] = timed(opened, batches)
            print(name, f"{share:.0%} padding", found[name], file=sys.stderr, flush=True)
    return found


def timed(
    opened: Mapping[str, Runner], batches: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Each engine runs all batches in its turn, every second round backwards."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    rows = sum(len(feeds["input_ids"]) for feeds in batches)
    for turn in range(ROUNDS):
        for name in list(opened) if turn % 2 == 0 else list(reversed(opened)):
            opened[name](batches[0])  # wakes its threads; the last engine's may still spin
            for feeds in batches:
                began = time.perf_counter()
                opened[name](feeds)
                times[name].append((time.perf_counter() - began) * 1e3)
    figures = {}
    for name, found in times.items():
        p50, p95 = np.percentile(found, [50, 95])
        by_batch = np.median(np.reshape(found, (ROUNDS, len(batches))), axis=0)
        figures[name] = {
            "p50": round(float(p50), 2),
            "p95": round(float(p95), 2),
            "rows_per_s": round(1000 * rows / float(by_batch.sum()), 1),
        }
    return figures
