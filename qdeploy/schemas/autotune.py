"""What is known of an engine that was one of several: what else was tried, and its figures."""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict


class Forms(TypedDict):
    """What pre-quantization scales and groups cost on a GPU, estimated, and measured there."""

    gpu: NotRequired[str]
    estimated_us: NotRequired[dict[str, float]]
    shape: NotRequired[list[int]]
    p50_ms: NotRequired[dict[str, float]]
    failed: NotRequired[dict[str, str]]
    kept: NotRequired[str]


class TargetChoice(TypedDict):
    """What `--target auto` measured; see `qdeploy.autotune.target`."""

    shape: list[int]
    threads: int
    p50_ms: dict[str, float]
    skipped: dict[str, str]


class DropFields(TypedDict):
    """See `qdeploy.evaluate.heldout.DropEstimate`."""

    expected_drop: float
    measured_drop: float
    standard_error: float
    sqnr_db: float
    cosine: NotRequired[float]


class TriedPlan(DropFields):
    """One plan that `--strategy auto` built."""

    options: dict[str, object]
    p50_ms: float
    relative: list[float]
    holds: bool


class Timed(TypedDict):
    """A time of a run, ms, and its ratio to the fastest plan that holds: [ratio, low, high]."""

    p50_ms: float
    relative: list[float]


class StrategySearch(TypedDict):
    """What `--strategy auto` tried; see `qdeploy.autotune.strategy`."""

    metric: NotRequired[str]
    max_drop: float
    rows: int
    max_length: int
    labelled: bool
    shape: list[int]
    fp32: Timed
    tried: list[TriedPlan]
    chosen: dict[str, object] | None
