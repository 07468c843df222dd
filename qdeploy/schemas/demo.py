"""report.json of the demo's folder."""

from __future__ import annotations

from typing_extensions import TypedDict

from qdeploy.schemas.evaluation import Neighbours
from qdeploy.schemas.fields import Count, Positive, Shape, Share
from qdeploy.schemas.quality import Interval


class DemoRounds(TypedDict):
    """How busy the machine was: slow rounds of FP32 over fast ones, and the limit."""

    spread: float
    limit: float
    busy: bool


class DemoRow(TypedDict):
    """One engine: its options, and its figures as in a report of `eval` against FP32.

    `rounded` says what is rounded to 8 bits; `neighbours` is None where it was not looked at.
    """

    name: str
    strategy: str
    rounded: str
    scope: str
    activations: str
    weights: str
    groups: int | str
    int8_planned: Count
    int8_executed: Count
    int8_share: Share
    int8_summary: str
    accuracy: Share
    n: Count
    constant_predictor: bool
    drop: float
    sqnr_db: float | None
    flipped: Count
    max_abs_diff: float
    neighbours: Neighbours | None
    size_mb: float
    p50_ms: float
    speedup: float
    speedup_ci95: Interval


class Demo(TypedDict):
    """What `demo` returns; `shape` is [B, S] of the runs that are timed."""

    schema: int
    data: str
    threads: Positive
    shape: Shape
    rounds: DemoRounds
    rows: list[DemoRow]
    sentences: list[str]
    seconds: float
