"""A sweep: what its trials write, what it is made of, and sweep.json (docs/files.md).

What trials write is read back, maybe of a file that was cut: whatever is reckoned with has bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeGuard

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.certificate import Fallback, Int8, Told, Unplanned
from qdeploy.schemas.fields import Count, Share, TimeShare
from qdeploy.schemas.manifest import Lengths

_LARGE = 1e300  # of whole numbers too, which JSON has of any length
Number = Annotated[float, Meta(ge=-_LARGE, le=_LARGE)]  # NaN is none
Rows = Annotated[int, Meta(ge=0, le=2**53)]
Interval = Annotated[list[Number], Meta(min_length=2, max_length=2)]  # low, high


class TrialNote(TypedDict):
    """STEP.ran.json: when and where a step ran, and what stopped it."""

    step: str
    began: Number
    seconds: Number
    where: str
    error: NotRequired[str | None]


class TrialFailure(TypedDict):
    """failed.json: the same of what was stopped."""

    error: str


class TrialMetrics(TypedDict):
    """What the head is judged by, over `n` rows: `metric` names it (accuracy, spearman, …)."""

    metric: str
    value: Number
    ci95: Interval
    n: Rows
    constant_predictor: bool


class Loss(TypedDict):
    """What is lost of a metric: `mcnemar_p` is of accuracy, `drop_ci95` of any other."""

    drop: Number
    drop_ci95: Interval | None
    mcnemar_p: Number | None


class AgainstBaseline(Loss):
    """A trial against the baseline; `sqnr_db` is None where no answer moved.

    `flipped` and `agreement` are of heads that choose one class of a row, and None of all others.
    """

    flipped: Number | None
    agreement: Number | None
    sqnr_db: Number | None
    max_abs_diff: Number | None


class TrialSize(TypedDict):
    """MB on disk: of every file, of `model.*`, and of the weights in it."""

    total: Number
    model: NotRequired[Number]
    weights: Number


class Answered(TypedDict):
    """How good the answers of a trial are; the baseline's own has no `baseline`."""

    metrics: TrialMetrics
    class_order: str | None
    baseline: AgainstBaseline | None


class TrialAccuracy(Answered):
    """accuracy.json."""

    size_mb: TrialSize
    int8: Int8 | None
    warnings: list[str]


class TrialTimes(TypedDict):
    """Times of a run, ms."""

    p50: Number
    p95: Number
    p90: NotRequired[Number]
    p99: NotRequired[Number]
    mean: NotRequired[Number]


class TrialSpeedup(TypedDict):
    """The baseline's time over the engine's."""

    ratio: Annotated[float, Meta(gt=0, le=_LARGE)]
    ci95: NotRequired[Interval]


class TimedShape(TypedDict):
    """What was timed at one shape; see `eval` for the fields."""

    latency_ms: TrialTimes
    speedup: TrialSpeedup | None
    memory_mb: dict[str, Number] | None
    protocol: dict[str, object]
    throughput: NotRequired[dict[str, Number] | None]


class TrialLatency(TypedDict):
    """latency.json; shapes by ROWSxTOKENS."""

    shapes: dict[str, TimedShape]
    machine: str
    date: str


class Resources(TypedDict, total=False):
    """What a trial asks of a cluster, as Ray's tasks take it."""

    num_cpus: float
    num_gpus: float
    resources: dict[str, float]


class RecipeProtocol(TypedDict):
    """What a recipe asks of every trial; see `qdeploy.sweep.recipe.Recipe`."""

    task: str
    columns: str | None
    max_length: int | None
    rows: Count
    seed: Count
    limit: int | None
    shapes: Sequence[Sequence[int]]
    warmup: Count
    iterations: Count
    threads: Count


class Setting(TypedDict):
    """What decides the figures of every trial, beside its own options."""

    model: str
    statistics: str
    rows: str
    protocol: RecipeProtocol
    versions: dict[str, str]


class TrialOptions(TypedDict):
    """A trial, and the options of `build` that make it."""

    key: str
    label: str
    settings: dict[str, object]
    target: str


class FailedTrial(TrialOptions):
    """A trial without figures, and why."""

    error: str


class RanInInt8(Told):
    """`Int8` without its GEMMs, and with everything that later versions added."""

    planned: Count
    executed: Count
    planned_share: Share
    executed_share: Share | None
    flops_share: Share
    time_share: TimeShare | None
    fallbacks: list[Fallback]
    unplanned: list[Unplanned]


class Ranked(TypedDict):
    """What trials are compared by; `relative` is their time as a part of FP32's."""

    key: str
    metric: str
    value: float
    drop: float
    drop_ci95: Interval | None
    mcnemar_p: float | None
    constant_predictor: bool
    relative: float


class FinishedTrial(TrialOptions, TrialMetrics, AgainstBaseline):
    """A trial with its figures; times are of the first shape, all of them in `latency`."""

    error: None
    p50_ms: Number
    p95_ms: Number
    speedup: TrialSpeedup | None
    relative: Number
    memory_mb: dict[str, Number] | None
    size_mb: TrialSize
    int8: RanInInt8 | None
    latency: dict[str, TimedShape]
    machine: str
    date: str
    warnings: list[str]
    ran: dict[str, TrialNote]


SweptTrial: TypeAlias = FinishedTrial | FailedTrial


class SweptRows(Lengths):
    """The rows of the evaluation; `left_out` calibrate, and are none of them."""

    source: str
    n: Rows | None
    left_out: Rows


class NextEngine(TypedDict):
    """The engine to build."""

    key: str
    reason: str
    command: str


class SweepFields(TypedDict):
    """sweep.json without its trials; `pareto` and `cheapest` are keys of them."""

    schema: int
    kind: Literal["sweep"]
    model: str
    data: SweptRows
    setting: Setting
    machines: list[str]
    dates: list[str]
    pareto: list[str]
    max_drop: float | None
    cheapest: str | None
    next: NextEngine | None
    versions: dict[str, str]
    warnings: list[str]


class SweepResult(SweepFields):
    """sweep.json: trials in the recipe's order, the baseline first."""

    trials: list[SweptTrial]


def is_finished(trial: SweptTrial) -> TypeGuard[FinishedTrial]:
    """Whether a trial ended with figures."""
    return trial["error"] is None


def is_sweep(report: Mapping[str, object]) -> TypeGuard[SweepResult]:
    """Whether a report of ours is one of `sweep`: reports name their kind."""
    return report.get("kind") == "sweep"
