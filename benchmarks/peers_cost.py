"""What calibration costs, and an engine before its first answer: sections of peers.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import qdeploy
from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.open import open_engine
from qdeploy.evaluate.memory import peak_memory
from qdeploy.evaluate.size import engine_size

LOADS = 5
TOKENS = 128  # of a row of QNLI, in calibration
ENGINES = {
    "qdeploy-fp32-ort-cpu": {"strategy": "fp32"},
    "qdeploy-peg-ort-cpu": {"strategy": "peg"},
    "qdeploy-fp32-openvino": {"strategy": "fp32", "target": "openvino"},
    "qdeploy-peg-openvino": {"strategy": "peg", "target": "openvino"},
}
_CALIBRATE = """
import json, re, sys, time, qdeploy
began = time.monotonic()
qdeploy.build(sys.argv[1], sys.argv[2], strategy='peg', data=sys.argv[3],
              calibration_rows=int(sys.argv[4]), max_length=int(sys.argv[5]))
status = open('/proc/self/status').read()
peak = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1000
print(json.dumps({'seconds': time.monotonic() - began, 'peak_mb': peak}))
"""
_LOAD = """
import sys, time
from qdeploy.deploy.open import open_engine
began = time.monotonic()
open_engine(sys.argv[1], threads=2)
print(time.monotonic() - began)
"""


def _fresh(code: str, *arguments: Any) -> Any:
    """What a process of its own prints, read as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def calibration(
    model: Path, data: Path, work: Path, rows: int, build: Callable[[str, Path], Any], peers: Any
) -> dict[str, Any]:
    """Seconds and peak MB of fresh processes that calibrate on so many rows and build.

    Args:
        build: builds one peer into a folder, and reports both figures.
        peers: names of those that calibrate.
    """
    found = {peer: build(peer, work / f"cost-{peer}") for peer in peers}
    for kept in (model / "statistics").glob("*.npz"):
        kept.unlink()
    arguments = model, work / "cost", data, rows, TOKENS
    return found | {"qdeploy-peg-ort-cpu": _fresh(_CALIBRATE, *arguments)}


def footprint(model: Path, data: Path, work: Path) -> dict[str, Any]:
    """Size on disk, time to load, and at 8 × 128 peak memory and the largest kernels of ours.

    Kernels are in ms of a profiled run; engines are profiled one after the other, so only shares
    of one engine compare.
    """
    statistics = qdeploy.calibrate(model, data=str(data), calibration_rows=64, max_length=TOKENS)
    found = {}
    for name, options in ENGINES.items():
        given = {} if options["strategy"] == "fp32" else {"statistics": statistics}
        qdeploy.build(model, work / name, **given, **options)  # type: ignore[arg-type]
    loads: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(LOADS):
        for name in ENGINES:
            loads[name].append(float(_fresh(_LOAD, work / name)))
    for name in ENGINES:
        found[name] = {
            "model_mb": engine_size(work / name)["model"],
            "load_s": float(np.median(loads[name])),
            "peak_mb": peak_memory(work / name)["peak"],
            "kernels_ms": kernels(work / name),
        }
    return found


def kernels(directory: Path) -> dict[str, float]:
    """Mean ms by kernel, the ten largest."""
    engine = open_engine(directory, threads=2)
    feeds = probe_feeds(list(engine.input_names), batch=8, sequence=128)
    times: Counter[str] = Counter()
    for kernel in engine.profile(feeds, iterations=20):
        times[kernel.kernel] += kernel.ms
    return {name: round(ms, 2) for name, ms in times.most_common(10)}
