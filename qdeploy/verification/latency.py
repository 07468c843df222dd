"""How fast a short run is here, beside a report: a note, since machines differ and are busy."""

from __future__ import annotations

import time

import numpy as np

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.engine import Engine
from qdeploy.errors import DataError
from qdeploy.figures import milliseconds
from qdeploy.files.artifact import read_json
from qdeploy.schemas.checked import check
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.schemas.verification import Check, Reported, SpotLatency
from qdeploy.types import PathLike, as_path

_WARMUP, _FEWEST, _MOST = 2, 3, 50  # runs
_SECONDS = 0.5
_SHAPE = (1, 128)  # where no report names another: what a server of single rows runs
_REMEDY = "Name a report that `qdeploy eval --json FILE` wrote, with latencies in it."


def reported_of(path: PathLike) -> Reported:
    """What a report of `eval` says of latency.

    Raises:
        DataError, ModelError: it is no such report.
    """
    place = as_path(path)
    assert place is not None
    return check(read_json(place, _REMEDY), Reported, place, _REMEDY, DataError)


def latency_note(
    manifest: EngineManifest, engine: Engine, reported: Reported | None
) -> tuple[Check, SpotLatency]:
    """The median of a short run, at the report's shape."""
    shape = _SHAPE
    if reported is not None:
        shape = (reported["protocol"]["batch_size"], reported["protocol"]["seq_len"])
    rows, tokens = _taken(manifest, shape)
    times = _times(engine, manifest, rows, tokens)
    found: SpotLatency = {
        "shape": [rows, tokens],
        "threads": engine.threads,
        "p50_ms": round(float(np.median(times)), 3),
        "runs": len(times),
    }
    text = f"{milliseconds(found['p50_ms'])} ms at {rows} × {tokens}, {engine.threads} threads"
    if reported is not None and (rows, tokens) == shape:
        found["reported_ms"] = reported["latency_ms"]["p50"]
        others = reported["protocol"]["threads"]
        text += f"; the report has {milliseconds(found['reported_ms'])} ms with {others} threads"
    return {"name": "latency", "state": "note", "text": text}, found


def _taken(manifest: EngineManifest, shape: tuple[int, int]) -> tuple[int, int]:
    """The shape, as far as the engine takes it."""
    shapes = (manifest.get("builder") or {}).get("shapes") or {}
    rows, tokens = shape[0], min(shape[1], manifest["max_length"])
    fewest, shortest = shapes.get("min") or (1, 1)
    most, longest = shapes.get("max") or (rows, tokens)
    return min(max(rows, fewest), most), min(max(tokens, shortest), longest)


def _times(engine: Engine, manifest: EngineManifest, rows: int, tokens: int) -> list[float]:
    """Times of runs, ms, for half a second."""
    run = engine.bind(probe_feeds(manifest["inputs"], batch=rows, sequence=tokens))
    for _ in range(_WARMUP):
        run()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() - begun < _SECONDS):
        started = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - started))
    return times
