"""What `eval` says of an engine; the fields stand in docs/files.md.

Shares (accuracy, agreement, drop) are 0 … 1, times ms, sizes MB of 10⁶ bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, TypeGuard

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.autotune import TargetChoice
from qdeploy.schemas.certificate import Int8
from qdeploy.schemas.fields import Count, Positive, Share
from qdeploy.schemas.manifest import Lengths
from qdeploy.schemas.quality import EmbeddingsNear, Interval, Quality


class Metrics(TypedDict):
    """Accuracy over `n` rows, with Wilson's interval; `constant_predictor`: one class for all."""

    accuracy: Share
    n: Count
    ci95: Interval
    constant_predictor: bool


class OutputNoise(TypedDict):
    """How far outputs are from the baseline's; `sqnr_db` is None where it is not finite."""

    sqnr_db: float | None
    equal_logits: bool
    max_abs_diff: float


class LabelledComparison(TypedDict):
    """What needs labels: the baseline's own accuracy, and what is lost against it."""

    accuracy: NotRequired[Share]
    ci95: NotRequired[Interval]
    drop: NotRequired[float]
    mcnemar_p: NotRequired[float]


class Comparison(OutputNoise, LabelledComparison):
    """An engine's answers against its baseline's, on the same rows; see `compare`."""

    flipped: Count
    agreement: Share
    constant_predictor: bool


class Tail(TypedDict):
    """Percentiles of times, ms."""

    p50: float
    p95: float


class Latency(Tail):
    """The same of runs at one shape, and their mean."""

    p90: float
    p99: float
    mean: float


class Speedup(TypedDict):
    """The baseline's time over the engine's: above 1 the engine is faster."""

    ratio: float
    ci95: Interval


class Throughput(TypedDict):
    """By the mean time of a run; padding counts for tokens."""

    rows_per_s: float
    tokens_per_s: float


class Ran(TypedDict):
    """What was run: see `qdeploy.evaluate.rounds.Timed`."""

    warmup: Count
    iterations: Count
    seconds: float
    ended_by_time: bool


class Protocol(TypedDict):
    """What was asked of the fixed shape, and what was run; the latter None without latency."""

    batch_size: Positive
    seq_len: Positive
    threads: Positive
    asked_warmup: Count | None
    asked_iterations: Count | None
    asked_seconds: float | None
    warmup: Count | None
    iterations: Count | None
    seconds: float | None
    ended_by_time: bool | None


GIVEN: Final = "given"  # rows as they come
SORTED: Final = "sorted"  # by length
Order: TypeAlias = Literal["given", "sorted"]


class TrafficSpeed(TypedDict):
    """Times of batches of the data's own lengths, and rows a second by their mean."""

    latency_ms: Tail
    rows_per_s: float


class Tokens(TypedDict):
    """Tokens of a row."""

    median: float
    p95: float


class Traffic(TrafficSpeed, Ran):
    """One kind of traffic; see `qdeploy.evaluate.traffic`. `padding`: of the batches' tokens."""

    order: Order
    batch_size: Positive
    batches: Positive
    padding: Share
    tokens: Tokens
    speedup: Speedup | None


class Int8Peak(TypedDict):
    """How far the engine is from this machine's fastest INT8 GEMMs, at the fixed shape.

    `tops` are 10¹² operations of its INT8 GEMMs a second of its latency, `peak_tops` those of the
    same GEMMs each alone. `share`: time of the latter over the latency. `fastest`: by runtime, of
    how many of the GEMMs it has the fastest kernel.
    """

    tops: float
    peak_tops: float
    share: float
    fastest: dict[str, Count]


class Change(TypedDict):
    """Of the same rows in two runs; `flipped` is None where the head answers with values."""

    max_abs_diff: float
    flipped: Count | None


class NeighbourFigures(Change):
    """The same rows in other batches, and in `padding` with other padding."""

    rows: Positive
    batch_size: Positive
    padding: Change


class Neighbours(NeighbourFigures):
    """The same; `summary` is the sentence that is printed."""

    summary: str


class Memory(TypedDict):
    """Peak of a fresh process; `device`: what the engine took of a GPU's memory."""

    peak: float
    interpreter: float
    device: NotRequired[float]


class Size(TypedDict):
    """Bytes on disk: every file, `model.*`, and the weights in it."""

    total: float
    model: float
    weights: float


class ColumnsRead(TypedDict):
    """The columns of the rows; None where there is none."""

    first: str
    second: NotRequired[str | None]
    label: str | None


class Data(TypedDict):
    """The rows: where from, how they were found, how long they are.

    Lengths are None where the engine read none. `calibration` has those of the rows that calibrated
    it, `also_calibration` how many of the rows are among them, `left_out` how many others were.
    """

    source: str
    n: Count
    hash: str
    labelled: bool
    max_length: Positive | None
    truncated: Count | None
    truncated_share: float | None
    lengths: dict[str, float] | None
    calibration: Lengths | None
    also_calibration: Count
    task: str
    columns: ColumnsRead
    stands_in: bool
    how: str | None
    remembered: bool
    left_out: Count


_From = TypedDict("_From", {"from": str})  # a word of Python


class ClassOrderFound(_From):
    """Class names by index and who says so; the order that fits better where one does."""

    order: list[str]
    form: str | None
    swapped: bool
    order_if_swapped: list[str] | None
    accuracy_if_swapped: float | None


class Baseline(LabelledComparison):
    """The engine that another is held against, and what was measured of both."""

    engine: str
    target: str
    strategy: str
    scope: str
    flipped: NotRequired[Count]
    agreement: NotRequired[Share]
    constant_predictor: NotRequired[bool]
    sqnr_db: NotRequired[float | None]
    equal_logits: NotRequired[bool]
    max_abs_diff: NotRequired[float]
    embeddings: NotRequired[EmbeddingsNear]
    latency_ms: NotRequired[Latency]
    device_ms: NotRequired[Latency | None]
    cuda_graph: NotRequired[bool | None]
    traffic: NotRequired[list[TrafficSpeed]]
    neighbours: NotRequired[Neighbours | None]
    memory_mb: NotRequired[Memory | None]
    size_mb: NotRequired[Size]
    int8: NotRequired[Int8 | None]


class Evaluation(TypedDict):
    """What `eval` returns; a section that was left out is None."""

    schema: int
    kind: Literal["evaluation"]
    engine: str
    target: str
    rest_precision: str
    simulated: bool
    auto: TargetChoice | None
    strategy: str
    scope: str
    task: str
    metrics: Metrics | None
    quality: Quality | None
    baseline: Baseline | None
    latency_ms: Latency | None
    device_ms: Latency | None
    cuda_graph: bool | None
    throughput: Throughput | None
    speedup: Speedup | None
    traffic: list[Traffic] | None
    neighbours: Neighbours | None
    protocol: Protocol
    memory_mb: Memory | None
    size_mb: Size
    int8: Int8 | None
    int8_peak: Int8Peak | None
    data: Data
    labels: ClassOrderFound | None
    no_accuracy: str | None
    versions: dict[str, str]
    warnings: list[str]


def is_evaluation(report: Mapping[str, object]) -> TypeGuard[Evaluation]:
    """Whether a report of ours is one of `eval`: reports name their kind."""
    return report.get("kind") == "evaluation"
