"""A prepared sweep, and what comes out of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from qdeploy.calibrate.strategies import needs_statistics
from qdeploy.data.lengths import RowLengths
from qdeploy.schemas.certificate import Int8
from qdeploy.schemas.quality import ACCURACY
from qdeploy.schemas.sweep import (
    AgainstBaseline,
    FinishedTrial,
    NextEngine,
    RanInInt8,
    Setting,
    SweepResult,
    SweptTrial,
    TrialOptions,
    is_finished,
)
from qdeploy.sweep.compare import cheapest, pareto, suggested
from qdeploy.sweep.recipe import FP32, Recipe, Trial
from qdeploy.sweep.stored import STEPS, TRIALS, accuracy_of, error_of, latency_of, note_of
from qdeploy.sweep.trial import Request
from qdeploy.text import beside

SCHEMA = 2  # 1 knew accuracies only
_SWITCHES = ("cuda_graph", "measure")  # options of `build` that are on where they are left out


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder with everything that its trials share.

    Attributes:
        shared: paths that a trial on another machine needs: model, statistics, rows.
        setting: what decides every trial's figures, besides its own options.
        source: where the evaluation rows come from.
        lengths: their tokens, and how many are cut.
        left_out: rows of the source that calibrate, and are none of them.
        warnings: what should make a reader of the comparison stop.
    """

    folder: Path
    recipe: Recipe
    shared: dict[str, Path]
    setting: Setting
    source: str
    lengths: RowLengths
    left_out: int
    warnings: tuple[str, ...]

    def key(self, trial: Trial) -> str:
        return trial.key(self.setting)

    def request(self, trial: Trial) -> Request:
        recipe, own = self.recipe, trial.settings == FP32
        base = self.folder / TRIALS / self.key(Trial(FP32))
        return Request(
            settings=trial.settings,
            folder=str(self.folder / TRIALS / self.key(trial)),
            model=str(self.shared["model"]),
            statistics=str(self.shared["statistics"]),
            data=str(self.shared["rows"]),
            baseline=None if own else str(base),
            task=recipe.task,
            max_length=recipe.max_length,
            shapes=recipe.shapes,
            warmup=recipe.warmup,
            iterations=recipe.iterations,
            threads=recipe.threads,
        )


def result_of(sweep: Sweep, max_drop: float | None) -> SweepResult:
    """sweep.json: one entry per trial in the recipe's order, the baseline first."""
    trials = [Trial(FP32), *sweep.recipe.trials]
    entries = [_entry(sweep, trial) for trial in trials]
    finished = [entry for entry in entries if is_finished(entry)]
    base = entries[0]
    return {
        "schema": SCHEMA,
        "kind": "sweep",
        "model": str(sweep.shared["model"]),
        "data": {
            "source": sweep.source,
            "n": base["n"] if is_finished(base) else None,
            "left_out": sweep.left_out,
            **sweep.lengths.to_json(),
        },
        "setting": sweep.setting,
        "machines": sorted({entry["machine"] for entry in finished}),
        "dates": sorted({entry["date"] for entry in finished}),
        "trials": entries,
        "pareto": pareto(finished),
        "max_drop": max_drop,
        "cheapest": None if max_drop is None else cheapest(finished[1:], max_drop),
        "next": _next(sweep, finished[1:], max_drop),
        "versions": sweep.setting["versions"],
        "warnings": [*sweep.warnings, *_class_order(sweep)],
    }


def _next(sweep: Sweep, entries: list[FinishedTrial], max_drop: float | None) -> NextEngine | None:
    """The engine to build: its `key`, the `reason`, and the `command` of a shell."""
    if max_drop is None:
        found = suggested(entries)
    else:
        key = cheapest(entries, max_drop)
        found = None if key is None else (key, f"the fastest within {max_drop:g} points")
    if found is None:
        return None
    key, reason = found
    settings = next(entry["settings"] for entry in entries if entry["key"] == key)
    strategy = str(settings["strategy"])
    output = beside(sweep.folder, strategy)
    words = ["qdeploy", "build", str(sweep.shared["model"]), str(output)]
    if needs_statistics(strategy):
        words += ["--statistics", str(sweep.shared["statistics"])]
    for name, value in settings.items():
        words += _flag(name, value)
    return {"key": key, "reason": reason, "command": shlex.join(words)}


def _flag(name: str, value: object) -> list[str]:
    """An option of `qdeploy build` as words of its command line."""
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        off = [flag.replace("--", "--no-", 1)] if name in _SWITCHES else []
        return [flag] if value else off
    return [flag, str(value)]


def _class_order(sweep: Sweep) -> list[str]:
    """The warning of FP32's answers that their classes are in a wrong order; it is all trials'."""
    folder = Path(sweep.request(Trial(FP32)).folder)
    found = accuracy_of(folder, compared=False)
    return [] if found is None or found["class_order"] is None else [found["class_order"]]


def _entry(sweep: Sweep, trial: Trial) -> SweptTrial:
    request = sweep.request(trial)
    folder = Path(request.folder)
    asked: TrialOptions = {
        "key": sweep.key(trial),
        "label": trial.label,
        "settings": trial.settings,
        "target": trial.target,
    }
    error = error_of(folder)
    if error is not None:
        return {**asked, "error": error}
    found = accuracy_of(folder, compared=request.baseline is not None)
    times = latency_of(folder, request.shapes)
    notes = {step: note for step in STEPS if (note := note_of(folder, step)) is not None}
    if found is None or times is None or len(notes) < len(STEPS):
        return {**asked, "error": f"{folder} was changed while the sweep ran. Run it again."}
    rows, tokens = sweep.recipe.shapes[0]
    first = times["shapes"][f"{rows}x{tokens}"]
    base = found["baseline"] or _itself(chooses=found["metrics"]["metric"] == ACCURACY)
    return {
        **asked,
        "error": None,
        "metric": found["metrics"]["metric"],
        "value": found["metrics"]["value"],
        "ci95": found["metrics"]["ci95"],
        "n": found["metrics"]["n"],
        "constant_predictor": found["metrics"]["constant_predictor"],
        "drop": base["drop"],
        "drop_ci95": base["drop_ci95"],
        "mcnemar_p": base["mcnemar_p"],
        "flipped": base["flipped"],
        "agreement": base["agreement"],
        "sqnr_db": base["sqnr_db"],
        "max_abs_diff": base["max_abs_diff"],
        "p50_ms": first["latency_ms"]["p50"],
        "p95_ms": first["latency_ms"]["p95"],
        "speedup": first["speedup"],
        "relative": 1 / first["speedup"]["ratio"] if first["speedup"] else 1.0,
        "memory_mb": first["memory_mb"],
        "size_mb": found["size_mb"],
        "int8": None if found["int8"] is None else _without_gemms(found["int8"]),
        "latency": times["shapes"],
        "machine": times["machine"],
        "date": times["date"],
        "warnings": found["warnings"],
        "ran": notes,
    }


def _itself(*, chooses: bool) -> AgainstBaseline:
    """What a comparison of the baseline with itself gives."""
    return {
        "drop": 0.0,
        "drop_ci95": None if chooses else [0.0, 0.0],
        "mcnemar_p": 1.0 if chooses else None,
        "flipped": 0 if chooses else None,
        "agreement": 1.0 if chooses else None,
        "sqnr_db": None,
        "max_abs_diff": 0.0,
    }


def _without_gemms(found: Int8) -> RanInInt8:
    short: RanInInt8 = {
        "planned": found["planned"],
        "executed": found["executed"],
        "planned_share": found["planned_share"],
        "executed_share": found.get("executed_share"),
        "flops_share": found["flops_share"],
        "time_share": found.get("time_share"),
        "fallbacks": found["fallbacks"],
        "unplanned": found.get("unplanned", []),
        "flops_measured": found["flops_measured"],
        "summary": found["summary"],
        "short": found["short"],
    }
    if "kernels" in found:
        short["kernels"] = found["kernels"]
    if "shape" in found:
        short["shape"] = found["shape"]
    if "flops_reason" in found:
        short["flops_reason"] = found["flops_reason"]
    return short
