"""`--strategy auto`: the plan of the highest SQNR of the logits among those as fast as the fastest.

Candidates are the strategies that a user would try by hand, and `peg` at several noise targets. A
plan holds where it loses at most `max_drop` hundredths of the head's metric (points of accuracy) on
rows that calibrated nothing: `qdeploy.evaluate.judge`. Where none holds, the noisiest sites of the
least harmful `peg` fall back to float, more and more of them.

All engines, and FP32, are timed in one alternating run. Of the plans that hold, those count as fast
that are within 3 % of the fastest, or that the 95 % interval cannot tell from it. Of these, the one
with the highest SQNR of the logits is kept, which need not be the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from qdeploy.autotune.candidates import Candidates, Tried, worded
from qdeploy.autotune.timing import keep, noise_of, rounds_of
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.calibrate.run import calibrate_model, rows_again
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import FP32
from qdeploy.data.reading import Reading, reading_for_model
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.request import check_paths, check_shape
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import DataError, GateError, PlanError, TargetError
from qdeploy.evaluate.judge import judge_of
from qdeploy.evaluate.latency import median, ratio_of_medians
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.row_tokens import tokens_kept
from qdeploy.files.artifact import read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.head import head_of
from qdeploy.machine.threads import usable_cores
from qdeploy.options import changed, defaults, flat, make
from qdeploy.schemas.autotune import StrategySearch, Timed
from qdeploy.schemas.built import Built
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import PathLike, Progress

HELD_OUT = 512
# Options of a build that hold for every candidate, and those that decide nothing about a plan.
_SHARED = ("activations", "weights", "rest_precision", "padding", "compute_capability")
_OWN = (
    *("strategy", "target", "opt_shape", "max_drop", "metric", "measure", "seed"),
    *("data", "task", "columns", "calibration_rows", "max_length", "statistics"),
)
_RUNS = 120  # of each engine: twenty rounds of six, as the bootstrap wants


def build_within(
    model_dir: PathLike,
    engine_dir: PathLike,
    asked: BuildOptions,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build the plan that `--strategy auto` keeps: see the module's text.

    It loses at most `max_drop` points on rows that calibrated nothing. Of the plans that do, it has
    the highest SQNR of the logits among those within 3 % of the fastest, or that the 95 % interval
    cannot tell from it.

    Args:
        asked: of the build. `max_drop` None is 0.3, and 5 of the recall of neighbours. `max_length`
            is of the rows that calibrate and of those that do not, None takes what the statistics
            were made with. `activations`, `weights` and `rest_precision` hold for every candidate,
            and the other options of plans are what the search decides.

    Returns:
        What `build_engine` returns for the engine that was kept, and "search": {"metric",
        "max_drop", "rows",
        "labelled", "shape", "fp32": {"p50_ms", "relative"}, "tried": [{"options", "p50_ms",
        "relative", "expected_drop", …, "holds"}], "chosen"}, which stands in the engine's manifest
        too. `relative` is a time over that of the fastest plan that holds: [ratio, low, high].

    Raises:
        GateError: none holds; its attribute `report` is the search.
        DataError: no row is left to verify on.
        PlanError, ModelError, StatisticsError, OutputError: see `qdeploy.api.build`.
    """
    shared = _shared(asked)
    source, output, given = Path(model_dir), Path(engine_dir), asked.calibration
    manifest = read_manifest(source, "model")
    longest = int(manifest["max_length"])
    check_shape(asked.shape, longest)
    check_paths(source, output, asked, force=force)
    find_target(asked.target).require()
    statistics = given.statistics
    if statistics is None:
        statistics = calibrate_model(source, given, progress=progress)
    observed = Statistics.load(Path(statistics))
    reading, task, rows = _held_out(source, given, observed)
    kept = observed.origin.max_length if given.max_length is None else given.max_length
    limit = tokens_kept(head_of(source, manifest), longest, kept)
    shared = changed(shared, statistics=statistics)
    with scratch("search") as folder:
        candidates = Candidates(source, folder, shared, rows, limit, progress)
        base = candidates.base()
        exact = candidates.answered(base)
        known = find_task(task)
        places = known.columns if reading is None else Reading.from_json(reading).places
        judge = judge_of(base, rows, exact, task=known, places=places, metric=asked.metric)
        max_drop = judge.max_drop if asked.max_drop is None else asked.max_drop
        tried = candidates.all(base.head, max_drop, partial(judge.loss, exact.values))
        shape, fp32 = _time(tried, folder / FP32, max_drop, asked.shape, progress)
        best = choose([one for one in tried if one.drop.holds(max_drop)])
        report: StrategySearch = {
            "metric": judge.metric,
            "max_drop": max_drop,
            "rows": len(rows),
            "max_length": limit,
            "labelled": judge.labelled,
            "shape": list(shape),
            "fp32": fp32,
            "tried": [one.entry(max_drop) for one in tried],
            "chosen": None if best is None else best.options,
        }
        if best is None:
            raise GateError(_refusal(tried, judge.metric, max_drop), report)
        noise = None
        if asked.measure:
            noise = noise_of(
                source, best.folder, statistics, CalibrationOptions(seed=given.seed), reading
            )
        keep(best.folder, output, {"search": report, "noise": noise, "data": reading}, force=force)
    return {**best.built, "search": report, "noise": noise}


def _time(
    tried: Sequence[Tried],
    base: Path,
    max_drop: float,
    wanted: tuple[int, int],
    progress: Progress | None,
) -> tuple[tuple[int, int], Timed]:
    """Time plans and FP32 in one alternating run, each against the fastest plan that holds.

    Args:
        base: engine directory of FP32.

    Returns:
        The shape that they ran, and "p50_ms" and "relative" of FP32.
    """
    folders = [one.folder for one in tried]
    subjects = [load_engine(folder, usable_cores()) for folder in (*folders, base)]
    shape, rounds = rounds_of(subjects, wanted, progress, _RUNS)
    medians = [median(times) for times in rounds]
    holding = [at for at, one in enumerate(tried) if one.drop.holds(max_drop)]
    first = min(holding or range(len(tried)), key=medians.__getitem__)
    relative = [ratio_of_medians(times, rounds[first]) for times in rounds]
    for one, ms, ratio in zip(tried, medians, relative, strict=False):
        one.p50_ms, one.relative = ms, ratio
    return shape, {"p50_ms": round(medians[-1], 3), "relative": _rounded(relative[-1])}


def _rounded(relative: tuple[float, float, float]) -> list[float]:
    return [round(value, 4) for value in relative]


def choose(finalists: Sequence[Tried]) -> Tried | None:
    """The plan to keep: of those as fast as the fastest, the highest SQNR of the logits.

    Of equal SQNR it is the faster one; None where there are no finalists. The least drop does not
    decide: a few hundred rows cannot tell the drops of plans that hold apart.

    Args:
        finalists: plans that hold, timed against the fastest of them.
    """
    as_fast = [one for one in finalists if one.as_fast]
    return max(as_fast, key=lambda one: (one.drop.sqnr_db, -one.p50_ms), default=None)


def _shared(asked: BuildOptions) -> BuildOptions:
    """The options that every candidate shares.

    Raises:
        PlanError: one that the search decides, or no single target.
    """
    if asked.target == "auto":
        raise PlanError("--strategy auto compares plans on one target. Name it with --target.")
    if not find_target(asked.target).runs_here():
        raise TargetError(
            f"--strategy auto times engines, and there is no GPU here that runs {asked.target}. "
            "Take --strategy peg, or build where the GPU is."
        )
    plain, given = defaults(BuildOptions), flat(asked)
    set_ = {name for name, value in given.items() if value != plain[name]}
    if decided := sorted(set_ - set(_SHARED) - set(_OWN)):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in decided)
        raise PlanError(f"{flags}: --strategy auto decides that itself. Leave it out.")
    shared = {name: given[name] for name in (*_SHARED, "target", "opt_shape")}
    return make(BuildOptions, shared | {"measure": False})


def _refusal(tried: Sequence[Tried], metric: str, max_drop: float) -> str:
    best = min(tried, key=lambda one: one.drop.expected_drop)
    unit = "points" if metric == "accuracy" else f"hundredths of the {metric}"
    near = "" if best.drop.cosine is None else f", with a cosine of {best.drop.cosine:.4f} to FP32"
    return (
        f"No plan loses at most {max_drop:g} {unit} on the held-out rows; the least harmful, "
        f"{worded(best.options)}, is expected to lose {best.drop.expected_drop:.2f}{near}. Nothing "
        "was written. Allow more with --max-drop, or give more calibration rows."
    )


def _held_out(
    source: Path, given: CalibrationOptions, observed: Statistics
) -> tuple[ReadingFields | None, str, Rows]:
    """What is remembered of the source, its task, and rows of it that calibrated nothing.

    Raises:
        DataError: all of them did.
    """
    reading, task, stands_in = observed.origin.reading, given.task, False
    if given.data is not None or reading is None:
        asked = reading_for_model(
            source,
            data=given.data,
            task=given.task,
            columns=given.columns,
            max_length=given.max_length,
        )
        reading, task, stands_in = asked.to_json(), asked.task, asked.stands_in
    else:
        task = reading["task"]
    seen = frozenset(observed.origin.row_hashes)
    origin = replace(observed.origin, reading=reading)
    found = rows_again(origin, HELD_OUT, given.seed, without=seen)
    if not len(found):
        raise DataError(
            f"All rows of {found.source} calibrate; none is left to verify a plan on. Give more "
            "rows with --data, or fewer --calibration-rows."
        )
    if stands_in:  # their labels are not known to be the model's
        found = replace(found, labels=None)
    return reading, task, found
