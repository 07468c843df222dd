"""`qdeploy sweep`: a recipe's engines, built from one set of statistics, measured and compared."""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qdeploy.artifact import MANIFEST, package_versions, read_json, write_json
from qdeploy.calibrate.run import Observer, calibrate_model, model_digest, observe_directory
from qdeploy.calibrate.statistics import Statistics
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.rows import read_rows, row_hashes
from qdeploy.data.tasks import find_task
from qdeploy.data.write import write_rows
from qdeploy.errors import OutputError, QDeployError, QDeployWarning
from qdeploy.sweep.cluster import runner_on
from qdeploy.sweep.compare import cheapest, pareto
from qdeploy.sweep.connection import Connection
from qdeploy.sweep.local import Run, run_step
from qdeploy.sweep.recipe import FP32, Recipe, Trial, read_recipe
from qdeploy.sweep.shards import observer_on
from qdeploy.sweep.trial import ACCURACY, LATENCY, Request

Progress = Callable[[str, int, int], None]
# Runs one step of many trials and says of each how it ended: (key, error or None, `Run`).
Ended = Callable[[str, "str | None", Run], None]
Runner = Callable[[str, Mapping[str, Request], Ended], None]

SCHEMA = 1
STATISTICS, ROWS, FAILED, RESULT = "statistics.npz", "rows.jsonl", "failed.json", "sweep.json"


def run_sweep(
    model: str | Path,
    output: str | Path,
    *,
    recipe: str | Path,
    data: str | None = None,
    eval_data: str | None = None,
    max_drop: float | None = None,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build, measure and compare a recipe's engines; see `qdeploy.api.sweep`."""
    wanted, folder = read_recipe(recipe), Path(output)
    connection = None if ray_address is None else Connection(ray_address)
    observer = observe_directory if connection is None else observer_on(connection)
    sweep = _prepare(model, folder, wanted, data, eval_data, progress, observer)
    runner: Runner = _locally
    if connection is not None:
        runner = runner_on(connection, sweep.shared, wanted.resources)
    baseline = sweep.request(Trial(FP32))
    _run(sweep, {sweep.key(Trial(FP32)): baseline}, runner, progress, "baseline")
    if error := _error(Path(baseline.folder)):
        raise QDeployError(f"The FP32 baseline failed, and nothing can be compared: {error}")
    requests = {sweep.key(trial): sweep.request(trial) for trial in wanted.trials}
    _run(sweep, requests, runner, progress, "trials")
    result = _result(sweep, max_drop)
    write_json(folder / RESULT, result)
    return result


@dataclass(frozen=True)
class _Sweep:
    """A sweep's folder with everything that its trials share.

    Attributes:
        shared: paths that a trial on another machine needs: model, statistics, rows.
        setting: what decides every trial's figures, besides its own options.
        source: where the evaluation rows come from.
        warnings: what should make a reader of the comparison stop.
    """

    folder: Path
    recipe: Recipe
    shared: dict[str, Path]
    setting: dict[str, Any]
    source: str
    warnings: tuple[str, ...]

    def key(self, trial: Trial) -> str:
        return trial.key(self.setting)

    def request(self, trial: Trial) -> Request:
        recipe, own = self.recipe, trial.settings == FP32
        base = self.folder / "trials" / self.key(Trial(FP32))
        return Request(
            settings=trial.settings,
            folder=str(self.folder / "trials" / self.key(trial)),
            model=str(self.shared["model"]),
            statistics=str(self.shared["statistics"]),
            data=str(self.shared["rows"]),
            baseline=None if own else str(base),
            task=recipe.task,
            shapes=recipe.shapes,
            warmup=recipe.warmup,
            iterations=recipe.iterations,
            threads=recipe.threads,
        )


def _prepare(
    model: str | Path,
    folder: Path,
    recipe: Recipe,
    data: str | None,
    eval_data: str | None,
    progress: Progress | None,
    observer: Observer,
) -> _Sweep:
    """The folder, the model, one set of statistics, and the rows: made where they are missing."""
    _claim(folder)
    model_dir = _model(model, folder, progress)
    statistics = calibrate_model(
        model_dir,
        data=data,
        task=recipe.task,
        columns=recipe.columns,
        rows=recipe.rows,
        seed=recipe.seed,
        progress=progress,
        observer=observer,
    )
    shutil.copyfile(statistics, folder / STATISTICS)
    source = eval_data or data or MINI
    rows = read_rows(source, task=recipe.task, columns=recipe.columns)
    rows = rows if recipe.limit is None else rows.take(recipe.limit)
    write_rows(rows, find_task(recipe.task), folder / ROWS)
    setting = {
        "model": model_digest(model_dir),
        "statistics": statistics.stem,
        "rows": hashlib.sha256((folder / ROWS).read_bytes()).hexdigest(),
        "protocol": recipe.protocol(),
        "versions": package_versions(),
    }
    shared = {"model": model_dir, "statistics": folder / STATISTICS, "rows": folder / ROWS}
    seen = set(Statistics.load(statistics).origin.row_hashes)
    both = sum(found in seen for found in row_hashes(rows))
    texts = [
        f"{both} of {len(rows)} evaluation rows ({rows.source}) also calibrate the engines: their "
        "accuracy is too good. Name other rows with --eval-data."
    ]
    for text in texts if both else ():
        warnings.warn(text, QDeployWarning, stacklevel=3)
    return _Sweep(folder, recipe, shared, setting, rows.source, tuple(texts if both else ()))


def _claim(folder: Path) -> None:
    """Make the folder, or take up a sweep that stands there.

    Raises:
        OutputError: it holds something else, or cannot be written.
    """
    manifest = folder / MANIFEST
    known = manifest.is_file() and read_json(manifest).get("kind") == "sweep"
    if folder.exists() and not known and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is no folder of a sweep. Name a new one, or that of a sweep.")
    try:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        write_json(manifest, {"schema": SCHEMA, "kind": "sweep"})
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error


def _model(model: str | Path, folder: Path, progress: Progress | None) -> Path:
    """The model directory: the one given, or the checkpoint's export inside the folder."""
    from qdeploy import api

    given = Path(model)
    if (given / MANIFEST).is_file():
        return given
    exported = folder / "model"
    if not (exported / MANIFEST).is_file():
        api.export(model, exported, progress=progress)
    return exported


def _run(
    sweep: _Sweep,
    requests: Mapping[str, Request],
    runner: Runner,
    progress: Progress | None,
    stage: str,
) -> None:
    """Both steps of the trials, each where it is still missing; failures are kept, not raised.

    All engines are built and judged first, since that may run side by side; latencies come after,
    each alone on its machine.
    """
    _step("accuracy", ACCURACY, requests, runner, progress, stage)
    judged = {key: r for key, r in requests.items() if (Path(r.folder) / ACCURACY).is_file()}
    _step("latency", LATENCY, judged, runner, progress, stage)


def _step(
    step: str,
    made: str,
    requests: Mapping[str, Request],
    runner: Runner,
    progress: Progress | None,
    stage: str,
) -> None:
    """One step of the trials whose file `made` is missing."""
    folders = {key: Path(request.folder) for key, request in requests.items()}
    missing = {key: r for key, r in requests.items() if not (folders[key] / made).is_file()}
    for key in missing:
        folders[key].mkdir(parents=True, exist_ok=True)
        (folders[key] / FAILED).unlink(missing_ok=True)
    done = len(requests) - len(missing)

    def ended(key: str, error: str | None, run: Run) -> None:
        nonlocal done
        done += 1
        note = {"step": step, **asdict(run), "error": error}
        write_json(folders[key] / (FAILED if error else f"{step}.ran.json"), note)
        if progress is not None:
            progress(f"{stage}: {step}", done, len(requests))

    if missing:
        runner(step, missing, ended)


def _locally(step: str, requests: Mapping[str, Request], ended: Ended) -> None:
    """One after the other on this machine."""
    for key, request in requests.items():
        began, error = time.time(), None
        try:
            run_step(step, request)
        except QDeployError as failure:
            error = str(failure)
        ended(key, error, Run(began, time.time() - began, "this machine"))


def _error(folder: Path) -> str | None:
    path = folder / FAILED
    return str(read_json(path)["error"]) if path.is_file() else None


def _result(sweep: _Sweep, max_drop: float | None) -> dict[str, Any]:
    """sweep.json: one entry per trial in the recipe's order, the baseline first."""
    trials = [Trial(FP32), *sweep.recipe.trials]
    entries = [_entry(sweep, trial) for trial in trials]
    finished = [entry for entry in entries if entry["error"] is None]
    return {
        "schema": SCHEMA,
        "kind": "sweep",
        "model": str(sweep.shared["model"]),
        "data": {"source": sweep.source, "n": entries[0]["n"]},
        "setting": sweep.setting,
        "machines": sorted({entry["machine"] for entry in finished}),
        "dates": sorted({entry["date"] for entry in finished}),
        "trials": entries,
        "pareto": pareto(finished),
        "max_drop": max_drop,
        "cheapest": None if max_drop is None else cheapest(finished, max_drop),
        "versions": sweep.setting["versions"],
        "warnings": list(sweep.warnings),
    }


def _entry(sweep: _Sweep, trial: Trial) -> dict[str, Any]:
    request = sweep.request(trial)
    folder = Path(request.folder)
    entry: dict[str, Any] = {
        "key": sweep.key(trial),
        "label": trial.label,
        "settings": trial.settings,
        "target": trial.target,
        "error": _error(folder),
    }
    if entry["error"] is not None:
        return entry
    found, times = read_json(folder / ACCURACY), read_json(folder / LATENCY)
    rows, tokens = sweep.recipe.shapes[0]
    first = times["shapes"][f"{rows}x{tokens}"]
    base = found["baseline"] or {"drop": 0.0, "mcnemar_p": 1.0, "sqnr_db": None, "flipped": 0}
    return entry | {
        "accuracy": found["metrics"]["accuracy"],
        "ci95": found["metrics"]["ci95"],
        "n": found["metrics"]["n"],
        "constant_predictor": found["metrics"]["constant_predictor"],
        **{name: base[name] for name in ("drop", "mcnemar_p", "sqnr_db", "flipped")},
        "p50_ms": first["latency_ms"]["p50"],
        "p95_ms": first["latency_ms"]["p95"],
        "speedup": first["speedup"],
        "relative": 1 / first["speedup"]["ratio"] if first["speedup"] else 1.0,
        "memory_mb": first["memory_mb"],
        "size_mb": found["size_mb"],
        "int8": {k: v for k, v in (found["int8"] or {}).items() if k != "gemms"} or None,
        "latency": times["shapes"],
        "machine": times["machine"],
        "date": times["date"],
        "warnings": found["warnings"],
        "ran": {step: read_json(folder / f"{step}.ran.json") for step in ("accuracy", "latency")},
    }
