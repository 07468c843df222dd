"""What `verify` and `sign` say of an engine."""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import Positive

CheckName = Literal["files", "signature", "tokenizer", "processor", "numbers", "kernels", "latency"]
State = Literal["ok", "failed", "not checked", "note"]


class Check(TypedDict):
    """One check; a note fails nothing."""

    name: CheckName
    state: State
    text: str


class Numbers(TypedDict):
    """Outputs of the canary rows against those of the build.

    `sqnr_db` is None where all are equal, or one is not finite. `row_diffs` has the largest
    difference of an output of each row, None where one is not finite.
    """

    rows: int
    equal_rows: int
    sqnr_db: float | None
    least_sqnr_db: float
    row_diffs: list[float | None]
    most_abs_diff: float


class SpotLatency(TypedDict):
    """Median of a short run here, ms, beside that of a report where one was named."""

    shape: list[int]
    threads: int
    p50_ms: float
    runs: int
    reported_ms: NotRequired[float]


class Verified(TypedDict):
    """What `verify` returns; `ok`: nothing failed."""

    engine: str
    target: str | None
    ok: bool
    checks: list[Check]
    numbers: Numbers | None
    latency: SpotLatency | None
    seconds: float


class Signed(TypedDict):
    """What `sign` returns; `method` is "key", "certificate" or "sigstore"."""

    engine: str
    signature: str
    method: str
    files: int


class ReportedTimes(TypedDict):
    """Of a latency in a report of `eval`, ms."""

    p50: float


class ReportedShape(TypedDict):
    """Of its protocol."""

    batch_size: Positive
    seq_len: Positive
    threads: Positive


class Reported(TypedDict):
    """What is read of a report of `eval`."""

    latency_ms: ReportedTimes
    protocol: ReportedShape
