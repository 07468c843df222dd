"""The whole path on the embedded checkpoint: export, calibrate, build, evaluate, compare."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qdeploy import api
from qdeploy._callable import make_callable
from qdeploy.artifact import MANIFEST, write_json, write_manifest
from qdeploy.kept import note
from qdeploy.publish import check_output
from qdeploy.threads import check_threads

make_callable(__name__)  # qdeploy.demo(directory) is api.demo: docs/adr/0001

DATA = "qnli-mini"
CALIBRATION_ROWS = 128


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
    """One engine of the demo: its directory name, its strategy, its options."""

    name: str
    strategy: str
    options: Options = Options()


EXHIBITS = (
    Exhibit("fp32", "fp32"),
    Exhibit("dynamic", "dynamic"),
    Exhibit("w8a8", "w8a8", PAPER),
    Exhibit("percentile", "percentile", PAPER),
    Exhibit("mixed", "mixed", PAPER),
    Exhibit("peg", "peg", Options("all", "symmetric", "per-tensor", groups=4)),
    Exhibit("peg-gemm", "peg"),
)
BASELINE, VICTIM, REMEDY, SHIPPED = "fp32", "w8a8", "peg", "peg-gemm"

# Few runs: the demo shows the order of magnitude in minutes; `qdeploy eval` measures.
WARMUP, ITERATIONS = 3, 15
_NOTICEABLE = 0.01  # accuracy as a fraction; below it, a few hundred rows show nothing


def run_demo(
    directory: str | Path,
    *,
    force: bool = False,
    threads: int = 2,
    seed: int = 0,
    progress: api.Progress | None = None,
) -> dict[str, Any]:
    """Build and evaluate every exhibit in `directory`; arguments and errors as `api.demo`."""
    check_threads(threads)
    began, root = time.monotonic(), Path(directory)
    check_output(root, "demo", force=force)
    root.mkdir(parents=True, exist_ok=True)
    # First of all, so that --force knows the directory again even after an interruption.
    write_json(root / MANIFEST, {"schema": 1, "kind": "demo"})
    model = root / "model"
    api.export("embedded", model, force=True, seed=seed, progress=progress)
    note("demo", f"the model was kept in {root}")
    statistics = api.calibrate(
        model, data=DATA, rows=CALIBRATION_ROWS, seed=seed, progress=progress
    )
    for done, exhibit in enumerate(EXHIBITS, 1):
        _build(exhibit, root, statistics, seed, progress)
        note("demo", f"the model and {done} of {len(EXHIBITS)} engines were kept in {root}")
    rows = [_evaluate(exhibit, root, threads, seed, progress) for exhibit in EXHIBITS]
    result = {
        "schema": 1,
        "data": DATA,
        "threads": threads,
        "rows": rows,
        "sentence": sentence(rows),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(root / "report.json", result)
    write_manifest(root, "demo", {"seed": seed})
    return result


def _build(
    exhibit: Exhibit, root: Path, statistics: Path, seed: int, progress: api.Progress | None
) -> None:
    api.build(
        root / "model",
        root / exhibit.name,
        strategy=exhibit.strategy,
        statistics=statistics,
        seed=seed,
        force=True,
        measure=False,  # some are broken on purpose, and every row is measured below
        progress=_named(exhibit.name, progress),
        **asdict(exhibit.options),
    )


def _evaluate(
    exhibit: Exhibit, root: Path, threads: int, seed: int, progress: api.Progress | None
) -> dict[str, Any]:
    report = api.evaluate(
        root / exhibit.name,
        data=DATA,
        baseline=root / BASELINE if exhibit.name != BASELINE else None,
        threads=threads,
        seed=seed,
        progress=_named(exhibit.name, progress),
        warmup=WARMUP,
        iterations=ITERATIONS,
    )
    return _row(exhibit, report)


def _row(exhibit: Exhibit, report: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the demo's table, from a report of `api.evaluate`."""
    metrics, int8 = report["metrics"], report.get("int8") or {}
    return {
        "name": exhibit.name,
        "strategy": exhibit.strategy,
        **asdict(exhibit.options),
        "accuracy": metrics["accuracy"],
        "n": metrics["n"],
        "constant_predictor": metrics["constant_predictor"],
        "drop": (report.get("baseline") or {}).get("drop", 0.0),
        "p50_ms": report["latency_ms"]["p50"],
        "speedup": (report.get("speedup") or {}).get("ratio", 1.0),
        "size_mb": report["size_mb"]["total"],
        "int8_executed": int8.get("executed", 0),
        "int8_planned": int8.get("planned", 0),
        "int8": int8.get("short", ""),
        "int8_summary": int8.get("summary", ""),
    }


def _named(name: str, progress: api.Progress | None) -> api.Progress | None:
    """The same callback with the exhibit's name in front of each stage."""
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)


def sentence(rows: list[dict[str, Any]]) -> str:
    """Say what the figures show, whatever they show.

    Args:
        rows: lines as `_row` makes them; accuracy and drop are fractions.
    """
    by_name = {row["name"]: row for row in rows}
    victim, remedy, shipped = by_name[VICTIM], by_name[REMEDY], by_name[SHIPPED]
    size = by_name[BASELINE]["size_mb"] / shipped["size_mb"]
    return (
        f"{_breakage(victim, remedy)} The engine to ship ({SHIPPED}) {_kept(shipped)}, "
        f"takes {1 / shipped['speedup']:.2f} of FP32's time and 1/{size:.1f} of its disk space. "
        f"INT8: {shipped['int8_summary']}."
    )


def _breakage(victim: Mapping[str, Any], remedy: Mapping[str, Any]) -> str:
    lost, left = victim["drop"], remedy["drop"]
    if lost < _NOTICEABLE:
        return f"Plain INT8 (w8a8) loses {_points(lost)} here: nothing broke that could be mended."
    text = f"Plain INT8 of every activation (w8a8) loses {_points(lost)}"
    if left >= lost:
        return f"{text}, and peg does not mend it ({_points(left)} lost)."
    share = min((lost - left) / lost, 1.0)
    return f"{text}; groups of channels with their own scale (peg) bring {share:.0%} of it back."


def _kept(shipped: Mapping[str, Any]) -> str:
    if shipped["drop"] < _NOTICEABLE:
        return f"keeps FP32's accuracy ({_points(shipped['drop'])} lost)"
    return f"loses {_points(shipped['drop'])} against FP32"


def _points(fraction: float) -> str:
    return f"{max(100 * fraction, 0.0):.1f} points"
