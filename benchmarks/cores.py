"""Whether this machine's cores are physical ones, and how fast one multiplies 8-bit integers.

    python benchmarks/cores.py

One process multiplies alone on a core, then one on each of two cores at once. Cores of their own
do twice the work of one; two threads of one core share its multipliers and do little more than one.
What /sys says of a virtual machine need not be so. Its JSON goes into benchmarks/results/.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path

import numpy as np
from machine import heading, keep  # benchmarks/machine.py

from qdeploy.deploy.int8_peak import GemmShape, measure_peak

RESULTS = Path(__file__).parent / "results"
ROUNDS, SECONDS = 8, 1.0
# The GEMMs of BERT-base on 8 rows of 128 tokens, as often as a layer has each.
SHAPES = {
    GemmShape(1024, 768, 768): 4,
    GemmShape(1024, 768, 3072): 1,
    GemmShape(1024, 3072, 768): 1,
}
_SIDE = 512  # of the FP32 matrices, which fit a core's cache


def multiply(core: int, begins: float) -> int:
    """Products of FP32 matrices that one thread on one core makes in `SECONDS`."""
    os.sched_setaffinity(0, {core})
    a = np.random.default_rng(core).normal(size=(_SIDE, _SIDE)).astype(np.float32)
    a @ a
    time.sleep(max(0.0, begins - time.time()))
    end, done = time.perf_counter() + SECONDS, 0
    while time.perf_counter() < end:
        a @ a
        done += 1
    return done


def shared(first: int, second: int) -> list[float]:
    """Work of two cores at once over that of the first alone, by round."""
    ratios = []
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes that are started from here
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(multiply, [(first, 0.0), (second, 0.0)], chunksize=1)  # imports
        for _ in range(ROUNDS):
            alone = pool.apply(multiply, (first, time.time() + 0.5))
            begins = time.time() + 0.5
            both = pool.starmap(multiply, [(first, begins), (second, begins)], chunksize=1)
            ratios.append(sum(both) / alone)
    return ratios


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    result = heading("python benchmarks/cores.py", 1)
    siblings = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    result["siblings"] = siblings.read_text().strip() if siblings.is_file() else None
    if len(cores) > 1:
        ratios = shared(cores[0], cores[1])
        result["two_over_one"] = {
            "median": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    result["int8_tops"] = {}
    for threads in (1, 2):
        peak = measure_peak(SHAPES, threads)
        if peak is not None:
            tops = peak.flops / peak.ms / 1e9
            result["int8_tops"][str(threads)] = {"tops": tops, "fastest": dict(peak.fastest)}
    path = RESULTS / f"cores-{result['date']}.json"
    print(json.dumps(keep(path, result), indent=1))


if __name__ == "__main__":
    main()
