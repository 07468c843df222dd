"""What `inspect --against` says of a quantized file beside its FP32 file.

Shares (accuracy, agreement, drop) are 0 … 1, sizes MB of 10⁶ bytes, levels dB, times ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeGuard

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.evaluation import (
    ClassOrderFound,
    Data,
    LabelledComparison,
    Latency,
    Metrics,
    OutputNoise,
    Speedup,
)
from qdeploy.schemas.fields import Count, Share
from qdeploy.schemas.inspection import InspectedFile
from qdeploy.schemas.quality import Interval, Quality
from qdeploy.schemas.source import Source


class ProductNoise(TypedDict):
    """An INT8 product, the FP32 product that it is, and the SQNR if it alone is rounded.

    `alone_db` is None where nothing differs, or a value is not finite.
    """

    product: str
    of: str
    alone_db: float | None


class NotMatched(TypedDict):
    """An INT8 product whose cost is not known, and why, as a clause."""

    product: str
    reason: str


class ProductsNoise(TypedDict):
    """What each INT8 product costs, over so many rows; `together_db`: all of them rounded."""

    rows: Count
    together_db: float | None
    products: list[ProductNoise]
    not_matched: list[NotMatched]


class Answered(OutputNoise, LabelledComparison):
    """A file's answers against FP32's; what is None or absent needs classes, or labels.

    `accuracy` and `ci95` are FP32's, `metrics` has the file's own.
    """

    flipped: NotRequired[Count]
    agreement: NotRequired[Share]
    agreement_ci95: NotRequired[Interval]
    constant_predictor: NotRequired[bool]


class FileAnswers(TypedDict):
    """One file of the comparison.

    `int8` is the sentence of its certificate. `answers` is None of FP32 itself, `latency_ms` where
    nothing was timed; `speedup` is FP32's time over the file's.
    """

    name: str
    file: str
    size_mb: float
    int8: str
    int8_share: Share
    metrics: Metrics | None
    quality: Quality | None
    answers: Answered | None
    latency_ms: Latency | None
    speedup: Speedup | None


class Timing(TypedDict):
    """What was timed: interleaved runs at one shape."""

    batch_size: Count
    seq_len: Count
    threads: Count
    iterations: Count


class RebuiltFacts(TypedDict):
    """The engine that was built from the FP32 file, and the rows that calibrated it."""

    engine: str
    strategy: str
    target: str
    calibration_rows: Count
    calibration: str
    source: Source


class FileComparison(TypedDict):
    """What `inspect --against` returns.

    `subjects` are FP32, the file, and the engine that was rebuilt; `products` is None where the
    file has no INT8 product.
    """

    schema: int
    kind: Literal["comparison"]
    file: str
    against: str
    tokenizer: str
    task: str
    head: str
    subjects: list[FileAnswers]
    products: ProductsNoise | None
    found: InspectedFile
    data: Data
    labels: ClassOrderFound | None
    no_accuracy: str | None
    rebuilt: RebuiltFacts | None
    timing: Timing | None
    versions: dict[str, str]
    warnings: list[str]


def is_comparison(report: Mapping[str, object]) -> TypeGuard[FileComparison]:
    """Whether a report of ours is one of `inspect --against`."""
    return report.get("kind") == "comparison"
