"""`--strategy auto`: the plan of the highest SQNR of the logits among those as fast as the fastest.

Candidates are the strategies that a user would try by hand, and `peg` at several noise targets. A
plan holds where it loses at most `max_drop` points on rows that calibrated nothing. Where none
holds, the noisiest sites of the least harmful `peg` fall back to float, more and more of them.

All engines, and FP32, are timed in one alternating run. Of the plans that hold, those count as fast
that are within 3 % of the fastest, or that the 95 % interval cannot tell from it. Of these, the one
with the highest SQNR of the logits is kept, which need not be the fastest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.autotune.timing import keep, noise_of, rounds_of
from qdeploy.calibrate.run import calibrate_model, rows_again
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import needs_statistics
from qdeploy.data.infer import AUTO
from qdeploy.data.lengths import row_limit
from qdeploy.data.reading import reading_for_model
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.request import check_paths, check_shape, parse_shape
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import DataError, GateError, PlanError, TargetError
from qdeploy.evaluate.heldout import DropEstimate, estimate_drop
from qdeploy.evaluate.latency import median, ratio_of_medians
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.evaluate.predict import predict_logits
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.head import head_of
from qdeploy.machine.threads import usable_cores
from qdeploy.types import Array, Progress

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

HELD_OUT = 512
FP32 = "fp32"
MAX_DROP = 0.3
_SHARED = ("activations", "weights", "rest_precision")
_TARGETS_DB = (24.0, 27.0, 30.0, 33.0)
_BY_HAND: tuple[dict[str, Any], ...] = (
    {"strategy": "dynamic"},
    {"strategy": "w8a8"},
    {"strategy": "smoothquant"},
    {"strategy": "mixed", "mixed": "auto"},
    *({"strategy": "peg", "noise_target": target} for target in _TARGETS_DB),
)
# Where FP16 is at hand INT8 has to beat it, and groups compete with pre-quantization scales.
_ON_GPU: tuple[dict[str, Any], ...] = (
    {"strategy": "fp16"},
    {"strategy": "peg", "prescale": "none"},
)
_EXCEPTIONS = (1, 2, 4, 8)  # noisiest sites in float, where nothing else holds
_AS_FAST = 1.03  # times closer than this are one
_RUNS = 120  # of each engine: twenty rounds of six, as the bootstrap wants


@dataclass
class Tried:
    """One plan that was built and judged.

    Attributes:
        options: of `build`.
        folder: its engine directory.
        built: what `build_engine` said of it.
        drop: what it does to the held-out rows.
        p50_ms: median of a run, once all are timed.
        relative: it over that of the fastest plan that holds (of all plans, where none does), with
            its 95 % interval.
    """

    options: dict[str, Any]
    folder: Path
    built: dict[str, Any]
    drop: DropEstimate
    p50_ms: float = 0.0
    relative: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def as_fast(self) -> bool:
        """Whether it is as fast as the fastest, or cannot be told from it."""
        ratio, low, _ = self.relative
        return ratio <= _AS_FAST or low <= 1.0

    def entry(self, max_drop: float) -> dict[str, Any]:
        """For the report."""
        found = {
            "options": self.options,
            "p50_ms": round(self.p50_ms, 3),
            "relative": _rounded(self.relative),
        }
        return found | self.drop.to_json() | {"holds": self.drop.holds(max_drop)}


def build_within(
    model_dir: str | Path,
    engine_dir: str | Path,
    *,
    max_drop: float | None = None,
    target: str = "ort-cpu",
    opt_shape: str = "8x128",
    data: str | None = None,
    task: str = AUTO,
    columns: Columns | str | None = None,
    calibration_rows: int = 128,
    max_length: int | None = None,
    statistics: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
    measure: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Build the plan that `--strategy auto` keeps: see the module's text.

    It loses at most `max_drop` points on rows that calibrated nothing. Of the plans that do, it has
    the highest SQNR of the logits among those within 3 % of the fastest, or that the 95 % interval
    cannot tell from it.

    Args:
        max_drop: accuracy points that may be lost; None is 0.3.
        max_length: tokens kept of a row, calibrating or held out; None takes what the statistics
            were made with.
        measure: hold the engine that is kept against FP32 on a few rows.
        options: of `build`; `activations`, `weights` and `rest_precision` hold for every candidate,
            and the others are what the search decides.

    Returns:
        What `build_engine` returns for the engine that was kept, and "search": {"max_drop", "rows",
        "labelled", "shape", "fp32": {"p50_ms", "relative"}, "tried": [{"options", "p50_ms",
        "relative", "expected_drop", …, "holds"}], "chosen"}, which stands in the engine's manifest
        too. `relative` is a time over that of the fastest plan that holds: [ratio, low, high].

    Raises:
        GateError: none holds; its attribute `report` is the search.
        DataError: no row is left to verify on.
        PlanError, ModelError, StatisticsError, OutputError: see `qdeploy.api.build`.
    """
    max_drop = MAX_DROP if max_drop is None else max_drop
    if not 0 <= max_drop <= 100:
        raise PlanError(f"--max-drop is {max_drop:g}; give a number of points from 0 to 100.")
    common = _common(target, options)
    source, output, wanted = Path(model_dir), Path(engine_dir), parse_shape(opt_shape)
    check_shape(wanted, int(read_manifest(source, "model")["max_length"]))
    check_paths(source, output, data, statistics, force=force)
    find_target(target).require()
    _require_classifier(source)
    request: dict[str, Any] = {"data": data, "task": task, "columns": columns}
    if statistics is None:
        statistics = calibrate_model(
            source,
            rows=calibration_rows,
            max_length=max_length,
            seed=seed,
            progress=progress,
            **request,
        )
    observed = Statistics.load(Path(statistics))
    reading, stands_in = observed.origin.reading, False
    if data is not None or reading is None:
        asked = reading_for_model(source, max_length=max_length, **request)
        reading, task, stands_in = asked.to_json(), asked.task, asked.stands_in
    else:
        task = reading["task"]
    rows = _held_out(reading, observed, seed)
    if stands_in:  # their labels are not known to be the model's
        rows = replace(rows, labels=None)
    longest = int(read_manifest(source, "model")["max_length"])
    limit = row_limit(longest, observed.origin.max_length if max_length is None else max_length)
    shared = {"target": target, "opt_shape": opt_shape, "statistics": statistics, **common}
    with scratch("search") as folder:
        tried = _Trial(source, folder, shared, rows, limit, task, progress).all(max_drop)
        shape, fp32 = _time(tried, folder / FP32, max_drop, wanted, progress)
        best = choose([one for one in tried if one.drop.holds(max_drop)])
        report = {
            "max_drop": max_drop,
            "rows": len(rows),
            "max_length": limit,
            "labelled": rows.labels is not None,
            "shape": list(shape),
            "fp32": fp32,
            "tried": [one.entry(max_drop) for one in tried],
            "chosen": None if best is None else best.options,
        }
        if best is None:
            raise GateError(_refusal(tried, max_drop), report)
        noise = None
        if measure:
            noise = noise_of(source, best.folder, statistics, {"seed": seed}, reading)
        found = {"search": report, "noise": noise, "data": reading}
        keep(best.folder, output, found, force=force)
    return best.built | {"search": report, "noise": noise}


def _require_classifier(source: Path) -> None:
    """Refuse a head whose answers are not one class a row: no drop can be counted there.

    Raises:
        PlanError: with the way out.
    """
    head = head_of(source, read_manifest(source, "model"))
    if not head.chooses:
        raise PlanError(
            f"--strategy auto counts the answers that a plan changes, and {source} is a "
            f"{head.description} ({head.task}), which does not choose one class of a text. Name a "
            "strategy, such as peg: build measures what it does to the logits."
        )


def _time(
    tried: Sequence[Tried],
    base: Path,
    max_drop: float,
    wanted: tuple[int, int],
    progress: Progress | None,
) -> tuple[tuple[int, int], dict[str, Any]]:
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


def _common(target: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that every candidate shares.

    Raises:
        PlanError: one that the search decides, or no single target.
    """
    if target == "auto":
        raise PlanError("--strategy auto compares plans on one target. Name it with --target.")
    known = inspect.signature(build_engine).parameters
    set_ = {name for name, value in options.items() if value != known[name].default}
    if decided := sorted(set_ - set(_SHARED)):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in decided)
        raise PlanError(f"{flags}: --strategy auto decides that itself. Leave it out.")
    return {name: options[name] for name in _SHARED if name in options}


def worded(options: Mapping[str, Any]) -> str:
    """Options of a plan on one line."""
    return " ".join(f"{name}={value}" for name, value in options.items())


def _refusal(tried: Sequence[Tried], max_drop: float) -> str:
    best = min(tried, key=lambda one: one.drop.expected_drop)
    return (
        f"No plan loses at most {max_drop:g} points on the held-out rows; the least harmful, "
        f"{worded(best.options)}, is expected to lose {best.drop.expected_drop:.2f}. Nothing was "
        "written. Allow more with --max-drop, or give more calibration rows."
    )


def _held_out(reading: dict[str, Any] | None, statistics: Statistics, seed: int) -> Rows:
    """Rows of the same source that calibrated nothing.

    Raises:
        DataError: all of them did.
    """
    seen = frozenset(statistics.origin.row_hashes)
    origin = replace(statistics.origin, reading=reading)
    found = rows_again(origin, HELD_OUT, seed, without=seen)
    if not len(found):
        raise DataError(
            f"All rows of {found.source} calibrate; none is left to verify a plan on. Give more "
            "rows with --data, or fewer --calibration-rows."
        )
    return found


@dataclass(frozen=True)
class _Trial:
    """What every candidate is built from and judged on; `limit` is the tokens kept of a row."""

    source: Path
    folder: Path
    shared: dict[str, Any]
    rows: Rows
    limit: int
    task: str
    progress: Progress | None

    def all(self, max_drop: float) -> list[Tried]:
        """Every candidate that the target can express, with exceptions where none holds."""
        self._say(f"search: {FP32}", 0, 1)
        self._build({"strategy": "fp32"}, FP32)
        base = load_engine(self.folder / FP32, usable_cores())
        estimate = partial(estimate_drop, self._logits(base), gold=self._gold(base))
        half = find_target(self.shared["target"]).on_gpu
        tried = list(self._each(_BY_HAND + (_ON_GPU if half else ()), estimate))
        if not tried:
            raise PlanError(
                f"{self.shared['target']} can express none of the plans that auto tries."
            )
        if not any(one.drop.holds(max_drop) for one in tried):
            tried += self._each(list(_with_exceptions(tried)), estimate)
        return tried

    def _each(
        self, candidates: Sequence[Mapping[str, Any]], estimate: Callable[[Array], DropEstimate]
    ) -> Iterator[Tried]:
        for done, options in enumerate(candidates):
            self._say("search", done, len(candidates))
            self._say(f"search: {worded(options)}", 0, 1)
            name = f"{len(list(self.folder.iterdir()))}"
            try:
                built = self._build(options, name)
            except (TargetError, PlanError):
                continue
            engine = self.folder / name
            found = estimate(self._logits(load_engine(engine, usable_cores())))
            yield Tried(dict(options), engine, built, found)
        self._say("search", len(candidates), len(candidates))

    def _say(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)

    def _build(self, options: Mapping[str, Any], name: str) -> dict[str, Any]:
        calibrated = needs_statistics(options["strategy"])
        shared = self.shared | ({} if calibrated else {"statistics": None})
        return build_engine(self.source, self.folder / name, measure=False, **shared, **options)

    def _logits(self, subject: LoadedEngine) -> Array:
        encoded = subject.encoder.encode(self.rows, self.limit)
        return predict_logits(subject.engine, subject.encoder, encoded, batch_size=16)

    def _gold(self, subject: LoadedEngine) -> Array | None:
        from qdeploy.evaluate.labels import class_order, gold_of

        if self.rows.labels is None:
            return None
        order = class_order(subject.manifest["labels"], find_task(self.task))
        return gold_of(self.rows, order).indices


def _with_exceptions(tried: list[Tried]) -> Iterator[dict[str, Any]]:
    """The least harmful plan of `peg` with its noisiest sites in float."""
    pegs = [t for t in tried if t.options["strategy"] == "peg"]
    best = min(pegs, key=lambda t: t.drop.expected_drop)
    plan = read_json(best.folder / "plan.json")
    levels = {s["name"]: s["sqnr_db"] for s in plan["sites"] if s["sqnr_db"] is not None}
    noisy = sorted(levels, key=levels.__getitem__)
    for count in _EXCEPTIONS:
        if count < len(noisy):
            yield best.options | {"float_sites": noisy[:count]}
