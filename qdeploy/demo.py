"""The whole path on the embedded checkpoint: export, calibrate, build, measure, compare."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from qdeploy.calibrate.run import calibrate_model
from qdeploy.data.rows import read_rows
from qdeploy.data.tasks import find_task
from qdeploy.deploy.build import build_engine
from qdeploy.evaluate.accuracy import Judged, compare, metrics_of, predict_rows
from qdeploy.evaluate.latency import (
    LatencyProtocol,
    fixed_feeds,
    measure_alternating,
    median,
    ratio_of_medians,
)
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.neighbours import neighbours_of
from qdeploy.evaluate.size import engine_size
from qdeploy.exporter.entry import export_model
from qdeploy.files.artifact import MANIFEST, write_json, write_manifest
from qdeploy.files.kept import note
from qdeploy.files.output import check_output
from qdeploy.machine.threads import check_threads
from qdeploy.report.verdict import BASELINE, BUSY, DYNAMIC, REMEDY, SHIPPED, VICTIM, sentences
from qdeploy.schemas.built import Built
from qdeploy.schemas.demo import Demo, DemoRow
from qdeploy.schemas.evaluation import Neighbours, Size
from qdeploy.types import Array, Progress

SCHEMA = 2
DATA, TASK = "qnli-mini", "qnli"
CALIBRATION_ROWS = 128
# Few runs: the demo shows the order of magnitude; `qdeploy eval` measures.
PROTOCOL = LatencyProtocol(batch_size=8, seq_len=128, warmup=2, iterations=16)

_COMPANY = (SHIPPED, DYNAMIC)  # engines whose answers in other company are looked at

# What is rounded to 8 bits, as the table groups it.
NOTHING, INPUTS, EVERY = "nothing", "GEMM inputs only", "every activation"


@dataclass(frozen=True)
class Options:
    """What `api.build` is told beside the strategy; the names are its own."""

    scope: str = "gemm"
    activations: str = "asymmetric"
    weights: str = "per-channel"
    groups: int | str = "auto"


# The scope where per-tensor INT8 breaks: every activation, int8 without zero point (the paper's).
PAPER = Options(scope="all", activations="symmetric", weights="per-tensor")


@dataclass(frozen=True)
class Exhibit:
    """One engine of the demo: its directory name, its strategy, what it rounds, its options."""

    name: str
    strategy: str
    rounded: str
    options: Options = Options()


EXHIBITS = (
    Exhibit(BASELINE, "fp32", NOTHING),
    Exhibit(SHIPPED, "peg", INPUTS),
    Exhibit(DYNAMIC, "dynamic", INPUTS),
    Exhibit(VICTIM, "w8a8", EVERY, PAPER),
    Exhibit("percentile", "percentile", EVERY, PAPER),
    Exhibit("mixed", "mixed", EVERY, PAPER),
    Exhibit(REMEDY, "peg", EVERY, Options("all", "symmetric", "per-tensor", groups=4)),
)


def run_demo(
    directory: str | Path,
    *,
    force: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Demo:
    """Build and measure every exhibit in `directory`; arguments and errors as `api.demo`."""
    threads = check_threads(threads)
    began, root = time.monotonic(), Path(directory)
    check_output(root, "demo", force=force)
    root.mkdir(parents=True, exist_ok=True)
    # First of all, so that --force knows the directory again even after an interruption.
    write_json(root / MANIFEST, {"schema": 1, "kind": "demo"})
    model = root / "model"
    export_model("embedded", model, force=True, seed=seed, progress=_named("export", progress))
    note("demo", f"the model was kept in {root}")
    statistics = calibrate_model(
        model, data=DATA, calibration_rows=CALIBRATION_ROWS, seed=seed, progress=progress
    )
    built = {}
    for done, exhibit in enumerate(EXHIBITS, 1):
        built[exhibit.name] = _build(exhibit, root, statistics, seed, progress)
        note("demo", f"the model and {done} of {len(EXHIBITS)} engines were kept in {root}")
    rows, fp32_rounds = _measure(root, built, threads, seed, progress)
    spread = _spread(fp32_rounds)
    result: Demo = {
        "schema": SCHEMA,
        "data": DATA,
        "threads": threads,
        "shape": [PROTOCOL.batch_size, PROTOCOL.seq_len],
        "rounds": {"spread": round(spread, 3), "limit": BUSY, "busy": spread > BUSY},
        "rows": rows,
        "sentences": sentences(rows, str(root), spread),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(root / "report.json", result)
    write_manifest(root, "demo", {"seed": seed})
    return result


def _build(
    exhibit: Exhibit, root: Path, statistics: Path, seed: int, progress: Progress | None
) -> Built:
    """Build one engine, as one step: its stages take a second each."""
    if progress is not None:
        progress(f"build {exhibit.name}", 0, 1)
    built = build_engine(
        root / "model",
        root / exhibit.name,
        strategy=exhibit.strategy,
        statistics=statistics,
        seed=seed,
        force=True,
        measure=False,  # some are broken on purpose, and every row is measured below
        **asdict(exhibit.options),
    )
    if progress is not None:
        progress(f"build {exhibit.name}", 1, 1)
    return built


def _measure(
    root: Path,
    built: Mapping[str, Built],
    threads: int,
    seed: int,
    progress: Progress | None,
) -> tuple[list[DemoRow], list[Array]]:
    """Lines of the table, and FP32's rounds.

    Each engine answers every row once, and the times of all are of the same rounds.
    """
    if progress is not None:
        progress("load the engines", 0, 1)
    names = [exhibit.name for exhibit in EXHIBITS]
    subjects = [load_engine(root / name, threads) for name in names]
    data, task = read_rows(DATA, task=TASK), find_task(TASK)
    judged = [
        predict_rows(subject, data, task, progress=_part("answer every row", at, progress))
        for at, subject in enumerate(subjects)
    ]
    beside = {
        name: neighbours_of(
            subject.engine,
            subject.encoder,
            data,
            batch_size=PROTOCOL.batch_size,
            progress=progress,
            stage=f"answer rows in other company: {name}",
        )
        for name, subject in zip(names, subjects, strict=True)
        if name in _COMPANY
    }
    protocol = replace(PROTOCOL, threads=threads)
    sample = data.sample(protocol.batch_size, seed)
    pairs = [(s.engine, fixed_feeds(s.encoder, sample, protocol)) for s in subjects]
    times = measure_alternating(pairs, protocol, progress).rounds
    lines = [
        _line(
            exhibit,
            built[exhibit.name],
            own,
            judged[0],
            neighbours=beside.get(exhibit.name),
            size=engine_size(root / exhibit.name),
            rounds=(times[0], rounds),
            seed=seed,
        )
        for exhibit, own, rounds in zip(EXHIBITS, judged, times, strict=True)
    ]
    return lines, times[0]


def _line(
    exhibit: Exhibit,
    built: Built,
    own: Judged,
    base: Judged,
    *,
    neighbours: Neighbours | None,
    size: Size,
    rounds: tuple[list[Array], list[Array]],
    seed: int,
) -> DemoRow:
    """A line of the table; `rounds` are FP32's and the engine's."""
    int8, options = built["int8"], exhibit.options
    assert int8 is not None  # of targets that run here, and no dry run
    metrics, against = metrics_of(own), compare(own, base)
    ratio, low, high = ratio_of_medians(*rounds, seed)
    return {
        "name": exhibit.name,
        "strategy": exhibit.strategy,
        "rounded": exhibit.rounded,
        "scope": options.scope,
        "activations": options.activations,
        "weights": options.weights,
        "groups": options.groups,
        "int8_planned": int8["planned"],
        "int8_executed": int8["executed"],
        "int8_share": int8["flops_share"],
        "int8_summary": int8["summary"],
        "accuracy": metrics["accuracy"],
        "n": metrics["n"],
        "constant_predictor": metrics["constant_predictor"],
        "drop": against["drop"],
        "sqnr_db": against["sqnr_db"],
        "flipped": against["flipped"],
        "max_abs_diff": against["max_abs_diff"],
        "neighbours": neighbours,
        "size_mb": size["total"],
        "p50_ms": round(median(rounds[1]), 3),
        "speedup": round(ratio, 4),
        "speedup_ci95": [round(low, 4), round(high, 4)],
    }


def _spread(rounds: Sequence[Array]) -> float:
    """How many times as long as a fast round a slow one took: the 90th percentile over the 10th."""
    low, high = np.percentile([float(np.median(times)) for times in rounds], [10, 90])
    return float(high / low)


def _named(name: str, progress: Progress | None) -> Progress | None:
    """The same callback with a name in front of each stage."""
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)


def _part(stage: str, at: int, progress: Progress | None) -> Progress | None:
    """A callback for one engine's share of a stage that counts the rows of all engines."""
    if progress is None:
        return None
    return lambda _, done, total: progress(stage, at * total + done, len(EXHIBITS) * total)
