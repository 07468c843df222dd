"""`qdeploy sweep`: a recipe's engines, built from one set of statistics, measured and compared."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from qdeploy.calibrate.model import model_digest
from qdeploy.calibrate.observe import Observer, observe_directory
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.statistics import Origin, Statistics
from qdeploy.data.embedded import refuse_embedded
from qdeploy.data.lengths import cut_text, difference_text, row_limit
from qdeploy.data.reading import Reading, reading_for_model
from qdeploy.data.rows import Rows, row_hashes
from qdeploy.data.tasks import find_task
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.write import write_rows
from qdeploy.errors import DataError, PlanError, QDeployError, QDeployWarning
from qdeploy.evaluate.evaluation_rows import unseen_rows
from qdeploy.evaluate.row_tokens import encoded_of
from qdeploy.exporter.entry import export_model
from qdeploy.files.artifact import (
    MANIFEST,
    read_manifest,
    write_bytes,
    write_json,
)
from qdeploy.files.kept import note
from qdeploy.files.lease import Lease
from qdeploy.head import EMBEDDINGS, head_of
from qdeploy.options import given_or
from qdeploy.schemas.sweep import SweepResult
from qdeploy.sweep.claim import claimed
from qdeploy.sweep.cluster import runner_on
from qdeploy.sweep.connection import Connection
from qdeploy.sweep.local import Ended, Run, TrialError, run_step
from qdeploy.sweep.options import SweepOptions
from qdeploy.sweep.recipe import FP32, Recipe, Trial, read_recipe
from qdeploy.sweep.result import Sweep, result_of
from qdeploy.sweep.shards import observer_on
from qdeploy.sweep.stored import (
    FAILED,
    MODEL,
    RESULT,
    ROWS,
    STATISTICS,
    STEPS,
    error_of,
    is_done,
    is_whole,
)
from qdeploy.sweep.trial import Request
from qdeploy.types import PathLike, Progress

# Runs one step of many trials and says of each how it ended.
Runner = Callable[[str, Mapping[str, Request], Ended], None]


@dataclass
class _Kept:
    """What a sweep has finished, for whoever interrupts it."""

    folder: Path
    trials: int
    steps: dict[str, set[str]] = field(default_factory=lambda: {step: set() for step in STEPS})

    def add(self, step: str, keys: Iterable[str]) -> None:
        self.steps[step].update(keys)
        judged, timed = map(len, self.steps.values())
        note(
            "sweep",
            f"{judged} of {self.trials} trials kept in {self.folder}, {timed} of them timed; the "
            "same command goes on",
        )


def run_sweep(
    model: PathLike,
    output: PathLike,
    recipe: PathLike,
    options: SweepOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: Any,
) -> SweepResult:
    """Build, measure and compare a recipe's engines; see `qdeploy.api.sweep`.

    Args:
        fields: of the options, by name.
    """
    asked = given_or(SweepOptions, options, fields)
    wanted, folder = read_recipe(recipe), Path(output)
    if asked.max_length is not None:
        wanted = replace(wanted, max_length=asked.max_length)
    connection = None if asked.ray_address is None else Connection(asked.ray_address)
    observer = observe_directory if connection is None else observer_on(connection)
    with claimed(folder, model) as lease:
        kept = _Kept(folder, 1 + len(wanted.trials))
        kept.add("accuracy", ())
        sweep = _prepare(model, folder, wanted, asked, progress, observer)
        runner: Runner = partial(_locally, lease=lease)
        if connection is not None:
            runner = runner_on(connection, sweep.shared, wanted.resources)
        _all(sweep, runner, progress, kept)
        result = result_of(sweep, asked.max_drop)
        for text in result["warnings"][len(sweep.warnings) :]:
            warnings.warn(text, QDeployWarning, stacklevel=2)
        write_json(folder / RESULT, result)
    return result


def _all(sweep: Sweep, runner: Runner, progress: Progress | None, kept: _Kept) -> None:
    """The baseline, then every trial.

    Raises:
        QDeployError: the baseline failed.
    """
    baseline = sweep.request(Trial(FP32))
    _run({sweep.key(Trial(FP32)): baseline}, runner, progress, "baseline", kept)
    if error := error_of(Path(baseline.folder)):
        raise QDeployError(f"The FP32 baseline failed, and nothing can be compared: {error}")
    requests = {sweep.key(trial): sweep.request(trial) for trial in sweep.recipe.trials}
    _run(requests, runner, progress, "trials", kept)


def _prepare(
    model: str | Path,
    folder: Path,
    recipe: Recipe,
    given: SweepOptions,
    progress: Progress | None,
    observer: Observer,
) -> Sweep:
    """The folder, the model, one set of statistics, and the rows: made where they are missing."""
    model_dir = _model(model, folder, progress)
    manifest = read_manifest(model_dir, "model")
    longest = int(manifest["max_length"])
    if (tokens := max(shape[1] for shape in recipe.shapes)) > longest:
        raise PlanError(
            f"`latency.shapes` has {tokens} tokens, and the model takes {longest} at most."
        )
    reading, judged = _readings(model_dir, recipe, given)
    if judged.stands_in:
        refuse_embedded(judged.task, manifest["labels"], "now or when this model was calibrated")
    recipe = replace(recipe, task=judged.task, max_length=reading.max_length)
    row_limit(longest, recipe.max_length)  # refused before anything is calibrated
    rows_asked = CalibrationOptions(
        data=reading.source,
        task=reading.task,
        columns=reading.columns,
        calibration_rows=recipe.rows,
        max_length=recipe.max_length,
        seed=recipe.seed,
    )
    more = {"progress": progress, "observer": observer} | recipe.gathers
    statistics = calibrate_model(model_dir, rows_asked, **more)
    write_bytes(folder / STATISTICS, statistics.read_bytes())
    origin = Statistics.load(statistics).origin
    same = judged.source == reading.source  # as for `eval` without --data
    seen = frozenset(origin.row_hashes) if same else frozenset()
    rows, left_out = unseen_rows(judged, seen, recipe.limit)
    encoder, head = TextEncoder.from_directory(model_dir), head_of(model_dir, manifest)
    if rows.labels is None and head.task != EMBEDDINGS:
        raise DataError(
            f"{rows.without_labels()}, and a sweep compares answers with labels. Name their "
            "column with `columns: label=COLUMN` in the recipe, or labelled rows with --eval-data."
        )
    write_rows(rows, find_task(recipe.task), folder / ROWS)
    setting = recipe.setting(model_digest(model_dir), statistics, folder / ROWS)
    shared = {"model": model_dir, "statistics": folder / STATISTICS, "rows": folder / ROWS}
    lengths = encoded_of(encoder, head, rows, longest, recipe.max_length).row_lengths
    cut = cut_text(lengths, "evaluation", longest, recipe.max_length)
    found = (_seen(rows, origin), cut, difference_text(origin.lengths, lengths))
    texts = tuple(text for text in found if text is not None)
    for text in texts:
        warnings.warn(text, QDeployWarning, stacklevel=3)
    return Sweep(folder, recipe, shared, setting, rows.source, lengths, left_out, texts)


def _readings(model_dir: Path, recipe: Recipe, given: SweepOptions) -> tuple[Reading, Reading]:
    """How the rows that calibrate are read, and those of the evaluation."""
    columns, most = recipe.columns, recipe.max_length
    read = partial(reading_for_model, model_dir, task=recipe.task, columns=columns, max_length=most)
    reading = read(data=given.data)
    if given.eval_data is None:
        return reading, reading
    return reading, read(data=given.eval_data, split="evaluation")


def _seen(rows: Rows, origin: Origin) -> str | None:
    """Evaluation rows that calibrate too, as a warning."""
    both = sum(found in set(origin.row_hashes) for found in row_hashes(rows))
    if not both:
        return None
    return (
        f"{both} of {len(rows)} evaluation rows ({rows.source}) also calibrate the engines: "
        "their accuracy is too good. Name other rows with --eval-data."
    )


def _model(model: str | Path, folder: Path, progress: Progress | None) -> Path:
    """The model directory: the one given, or the checkpoint's export inside the folder."""
    given = Path(model)
    if (given / MANIFEST).is_file():
        return given
    exported = folder / MODEL
    if not is_whole(exported, "model"):
        if exported.exists():
            shutil.rmtree(exported)  # damaged; it is the sweep's own
        export_model(model, exported, progress=progress)
    return exported


def _run(
    requests: Mapping[str, Request],
    runner: Runner,
    progress: Progress | None,
    stage: str,
    kept: _Kept,
) -> None:
    """Both steps of the trials, each where it is still missing; failures are kept, not raised.

    All engines are built and judged first, since that may run side by side; latencies come after,
    each alone on its machine.
    """
    judged = _step("accuracy", requests, runner, progress, stage, kept)
    for request in _step("latency", judged, runner, progress, stage, kept).values():
        (Path(request.folder) / FAILED).unlink(missing_ok=True)


def _step(
    step: str,
    requests: Mapping[str, Request],
    runner: Runner,
    progress: Progress | None,
    stage: str,
    kept: _Kept,
) -> dict[str, Request]:
    """One step of the trials where it is not done; those that have it then."""
    folders = {key: Path(request.folder) for key, request in requests.items()}
    finished = {key: r for key, r in requests.items() if _done(step, r)}
    missing = {key: r for key, r in requests.items() if key not in finished}
    kept.add(step, finished)
    for key in missing:
        folders[key].mkdir(parents=True, exist_ok=True)
        (folders[key] / FAILED).unlink(missing_ok=True)
    done = len(finished)

    def ended(key: str, error: str | None, run: Run) -> None:
        nonlocal done
        done += 1
        _note(folders[key], step, error, run)
        if error is None and not _done(step, missing[key]):
            error = f"{folders[key]} does not hold what the step {step} wrote"
            _note(folders[key], step, error, run)
        if error is None:
            finished[key] = missing[key]
            kept.add(step, [key])
        if progress is not None:
            progress(f"{stage}: {step}", done, len(requests))

    if missing:
        if progress is not None:
            progress(f"{stage}: {step}", done, len(requests))
        runner(step, missing, ended)
    return finished


def _note(folder: Path, step: str, error: str | None, run: Run) -> None:
    name = FAILED if error else f"{step}.ran.json"
    write_json(folder / name, {"step": step, **asdict(run), "error": error})


def _done(step: str, request: Request) -> bool:
    """Whether a step's result is there, whole, and the note that is written behind it."""
    compared = request.baseline is not None
    return is_done(step, Path(request.folder), compared=compared, shapes=request.shapes)


def _locally(step: str, requests: Mapping[str, Request], ended: Ended, *, lease: Lease) -> None:
    """One after the other on this machine; each trial holds the lock of the sweep's folder too."""
    descriptor = lease.descriptor()
    keep = () if descriptor is None else (descriptor,)
    for key, request in requests.items():
        began, error = time.time(), None
        try:
            run_step(step, request, keep=keep)
        except TrialError as failure:
            error = str(failure)
        ended(key, error, Run(began, time.time() - began, "this machine"))
