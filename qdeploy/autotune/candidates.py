"""The plans that `--strategy auto` tries, and what each does to rows that calibrated nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdeploy.calibrate.strategies import FP32, needs_statistics
from qdeploy.data.rows import Rows
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import PlanError, TargetError
from qdeploy.evaluate.accuracy import Compared, outputs_of
from qdeploy.evaluate.heldout import DropEstimate
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.evaluate.scoring import Outputs
from qdeploy.files.artifact import read_json
from qdeploy.head import Head
from qdeploy.machine.threads import usable_cores
from qdeploy.options import changed
from qdeploy.schemas.autotune import TriedPlan
from qdeploy.schemas.built import Built
from qdeploy.types import Progress

_BY_HAND: tuple[dict[str, object], ...] = (
    {"strategy": "dynamic"},
    {"strategy": "w8a8"},
    {"strategy": "smoothquant"},
    {"strategy": "mixed", "mixed": "auto"},
)
_TARGETS_DB = (24.0, 27.0, 30.0, 33.0)  # noise targets of `peg`
_OF_RANKS = (27.0, 30.0, 33.0, 36.0, 39.0)
# Where FP16 is at hand INT8 has to beat it, and groups compete with pre-quantization scales.
_ON_GPU: tuple[dict[str, object], ...] = (
    {"strategy": "fp16"},
    {"strategy": "peg", "prescale": "none"},
)
_EXCEPTIONS = (1, 2, 4, 8)  # noisiest sites in float, where nothing else holds
_AS_FAST = 1.03  # times closer than this are one


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

    options: dict[str, object]
    folder: Path
    built: Built
    drop: DropEstimate
    p50_ms: float = 0.0
    relative: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def as_fast(self) -> bool:
        """Whether it is as fast as the fastest, or cannot be told from it."""
        ratio, low, _ = self.relative
        return ratio <= _AS_FAST or low <= 1.0

    def entry(self, max_drop: float) -> TriedPlan:
        """For the report."""
        return {
            "options": self.options,
            "p50_ms": round(self.p50_ms, 3),
            "relative": [round(value, 4) for value in self.relative],
            **self.drop.to_json(),
            "holds": self.drop.holds(max_drop),
        }


def worded(options: Mapping[str, object]) -> str:
    """Options of a plan on one line."""
    return " ".join(f"{name}={value}" for name, value in options.items())


@dataclass(frozen=True)
class Candidates:
    """The plans that are tried, built from the same and held against FP32 on the same rows.

    Attributes:
        source: model directory.
        folder: for the engines.
        shared: options of every candidate.
        rows: that calibrated nothing.
        limit: tokens kept of a row.
    """

    source: Path
    folder: Path
    shared: BuildOptions
    rows: Rows
    limit: int
    progress: Progress | None

    def base(self) -> LoadedEngine:
        """FP32, built."""
        self._say(f"search: {FP32}", 0, 1)
        self._build({"strategy": "fp32"}, FP32)
        return load_engine(self.folder / FP32, usable_cores())

    def answered(self, subject: LoadedEngine) -> Compared:
        """What an engine answers of the rows."""
        return outputs_of(subject, self.rows, max_length=self.limit, batch_size=16)

    def all(
        self, head: Head, max_drop: float, estimate: Callable[[Outputs], DropEstimate]
    ) -> list[Tried]:
        """Every candidate that the target can express, with exceptions where none holds.

        Args:
            head: of the model.
            max_drop: hundredths of the metric that may be lost.
            estimate: what outputs lose against FP32's.
        """
        targets = _OF_RANKS if head.ranks else _TARGETS_DB
        plans = list(_BY_HAND)
        plans += ({"strategy": "peg", "noise_target": target} for target in targets)
        plans += _ON_GPU if find_target(self.shared.target).on_gpu else ()
        tried = list(self._each(plans, estimate))
        if not tried:
            raise PlanError(f"{self.shared.target} can express none of the plans that auto tries.")
        if not any(one.drop.holds(max_drop) for one in tried):
            tried += self._each(list(_with_exceptions(tried)), estimate)
        return tried

    def _each(
        self,
        candidates: Sequence[Mapping[str, object]],
        estimate: Callable[[Outputs], DropEstimate],
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
            found = estimate(self.answered(load_engine(engine, usable_cores())).values)
            yield Tried(dict(options), engine, built, found)
        self._say("search", len(candidates), len(candidates))

    def _say(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)

    def _build(self, options: Mapping[str, object], name: str) -> Built:
        calibrated = needs_statistics(str(options["strategy"]))
        more: dict[str, object] = {} if calibrated else {"statistics": None}
        return build_engine(
            self.source, self.folder / name, changed(self.shared, **more, **options)
        )


def _with_exceptions(tried: list[Tried]) -> Iterator[dict[str, object]]:
    """The least harmful plan of `peg` with its noisiest sites in float."""
    pegs = [t for t in tried if t.options["strategy"] == "peg"]
    best = min(pegs, key=lambda t: t.drop.expected_drop)
    plan = read_json(best.folder / "plan.json")
    levels = {s["name"]: s["sqnr_db"] for s in plan["sites"] if s["sqnr_db"] is not None}
    noisy = sorted(levels, key=levels.__getitem__)
    for count in _EXCEPTIONS:
        if count < len(noisy):
            yield best.options | {"float_sites": noisy[:count]}
