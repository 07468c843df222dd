"""qdeploy.json of model, engine and demo directories."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from qdeploy.files.schemas.fields import (
    Count,
    Digest,
    FileName,
    Pair,
    Positive,
    TaskName,
    Text,
    Token,
)
from qdeploy.files.schemas.reading import ReadingForm


class Contents(msgspec.Struct, kw_only=True):
    """What every manifest says of its directory.

    `sizes`, bytes, and `sealed`, digests of the other fields, came with a later version.
    """

    schema: Positive
    kind: Text
    files: dict[FileName, Digest] = {}
    sizes: dict[FileName, Count] = {}
    sealed: dict[str, str] = {}


class HeadFacts(msgspec.Struct, kw_only=True):
    """See `qdeploy.head.Head`."""

    problem_type: str | None = None
    function_to_apply: str | None = None
    activation: str | None = None


class Source(msgspec.Struct, kw_only=True):
    """Where a directory was made from: a folder, or else what a hub or the package names."""

    path: Text | None = None
    id: Text | None = None
    sha256: str

    def __post_init__(self) -> None:
        if (self.path is None) == (self.id is None):
            raise ValueError("`path` or `id` is expected, and one of them")


class _Taking(Contents, kw_only=True):
    """What a model and its engines take and give."""

    labels: list[str]
    task: TaskName
    max_length: Positive
    pad_token_id: Token
    inputs: Annotated[list[Text], Meta(min_length=1)]
    outputs: Annotated[list[Text], Meta(min_length=1)]
    source: Source
    head: HeadFacts | None = None
    vocabulary: Positive | None = None
    model_type: str | None = None
    versions: dict[str, str] = {}

    def __post_init__(self) -> None:
        for what, names in (("inputs", self.inputs), ("outputs", self.outputs)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} names one twice")


class Model(_Taking, kw_only=True):
    """qdeploy.json of a model directory."""


class Calibration(msgspec.Struct, kw_only=True):
    """Rows that calibrated an engine."""

    data: str
    rows: Positive
    seed: int
    max_length: Positive
    truncated: Count
    row_lengths: list[Count] = []
    row_hashes: list[str] = []
    lengths: dict[str, float] = {}


class Shapes(msgspec.Struct, kw_only=True):
    """Rows and tokens that a compiled engine takes."""

    max: Pair | None = None


class Builder(msgspec.Struct, kw_only=True):
    """What compiled an engine."""

    shapes: Shapes | None = None
    version_compatible: bool = False


class Noise(msgspec.Struct, kw_only=True):
    """See `qdeploy.deploy.noise_report.measure_noise`."""

    data: str
    rows: Positive
    simulated: bool
    equal: bool
    finite: bool
    answers: Count
    sqnr_db: float | None
    flipped: Count | None
    max_abs_diff: float | None
    warning: str | None

    def __post_init__(self) -> None:
        if self.finite and not self.equal and None in (self.sqnr_db, self.max_abs_diff):
            raise ValueError("outputs that differ have `sqnr_db` and `max_abs_diff`")


class Engine(_Taking, kw_only=True):
    """qdeploy.json of an engine directory."""

    target: Text
    strategy: Text
    scope: Text
    opt_shape: Pair
    checkpoint: Text | None = None
    rest_precision: Text = "f32"
    dry_run: bool = False
    cuda_graph: bool = True
    calibration: Calibration | None = None
    data: ReadingForm | None = None
    builder: Builder | None = None
    options: dict[str, Any] = {}
    noise: Noise | None = None


MANIFESTS: dict[str, type[Contents]] = {"model": Model, "engine": Engine, "demo": Contents}
