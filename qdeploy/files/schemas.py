"""What is read back from disk: the shape of each file, and values that cannot be.

Unknown fields are left alone: a later version may have written them. What is missing, of another
type or impossible is an error that names the file and the field (docs/adr/0021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from qdeploy.errors import ModelError, QDeployError

T = TypeVar("T")

Text = Annotated[str, Meta(min_length=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
TimeShare = Annotated[float, Meta(ge=0)]  # kernels that run side by side add up to more than all
Scale = Annotated[float, Meta(gt=0)]
Code = Annotated[int, Meta(ge=0, le=255)]
FileName = Annotated[str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.(/|$))[^\\\x00]+$")]  # stays inside
Pair = tuple[Positive, Positive]
TaskName = Literal["sequence-classification", "token-classification", "question-answering"]
Precision = Literal["int8", "float"]


class _Form(msgspec.Struct):
    """A JSON object."""


class Contents(_Form, kw_only=True):
    """What every manifest says of its directory.

    `sizes`, bytes, and `sealed`, digests of the other fields, came with a later version.
    """

    schema: Positive
    kind: Text
    files: dict[FileName, Digest] = {}
    sizes: dict[FileName, Count] = {}
    sealed: dict[str, str] = {}


class HeadFacts(_Form, kw_only=True):
    """See `qdeploy.head.Head`."""

    problem_type: str | None = None
    function_to_apply: str | None = None
    activation: str | None = None


class Source(_Form, kw_only=True):
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


class ColumnsForm(_Form, kw_only=True):
    """See `qdeploy.data.tasks.Columns`."""

    first: Text
    second: Text | None = None
    label: Text


class ReadingForm(_Form, kw_only=True):
    """See `qdeploy.data.reading.Reading`; `fingerprint` came later."""

    source: Text
    task: Text
    columns: ColumnsForm | None = None
    max_length: Positive | None = None
    fingerprint: Text | None = None


class Calibration(_Form, kw_only=True):
    """Rows that calibrated an engine."""

    data: str
    rows: Positive
    seed: int
    max_length: Positive
    truncated: Count
    row_lengths: list[Count] = []
    row_hashes: list[str] = []
    lengths: dict[str, float] = {}


class Shapes(_Form, kw_only=True):
    """Rows and tokens that a compiled engine takes."""

    max: Pair | None = None


class Builder(_Form, kw_only=True):
    """What compiled an engine."""

    shapes: Shapes | None = None
    version_compatible: bool = False


class Noise(_Form, kw_only=True):
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


class AffineForm(_Form, kw_only=True):
    """See `qdeploy.calibrate.affine.Affine`."""

    scale: Scale
    zero_point: Code


class FloatForm(_Form, kw_only=True, tag_field="kind", tag="float"):
    """See `qdeploy.calibrate.plan.Float`."""


class DynamicForm(_Form, kw_only=True, tag_field="kind", tag="dynamic"):
    """See `qdeploy.calibrate.plan.Dynamic`."""


class PerTensorForm(_Form, kw_only=True, tag_field="kind", tag="per_tensor"):
    """See `qdeploy.calibrate.plan.PerTensor`."""

    affine: AffineForm
    prescale: list[Scale] = []


class GroupedForm(_Form, kw_only=True, tag_field="kind", tag="grouped"):
    """See `qdeploy.calibrate.plan.Grouped`."""

    groups: Annotated[list[Annotated[list[Count], Meta(min_length=1)]], Meta(min_length=1)]
    affines: list[AffineForm]
    outlier_channels: list[Count] = []


class SiteForm(_Form, kw_only=True):
    """See `qdeploy.calibrate.plan.SitePlan`."""

    name: Text
    tensor: Text
    treatment: FloatForm | DynamicForm | PerTensorForm | GroupedForm
    reason: str
    sqnr_db: float | None = None


class GemmForm(_Form, kw_only=True):
    """See `qdeploy.calibrate.plan.GemmPlan`."""

    name: Text
    weight: Text
    precision: Precision
    reason: str


class PlanForm(_Form, kw_only=True):
    """plan.json."""

    schema: Positive
    strategy: Text
    scope: Text
    activations: Literal["asymmetric", "symmetric"]
    weights: Literal["per-channel", "per-tensor"]
    options: dict[str, Any]
    sites: list[SiteForm]
    gemms: list[GemmForm]
    tables: list[Text]


class PlannedGemm(_Form, kw_only=True):
    """What a certificate is held against, of one GEMM."""

    precision: Precision
    reason: str
    flops: Count
    float_flops: Count
    marks: list[tuple[str, str]]


class OtherProduct(_Form, kw_only=True):
    """The same of a product that is in no plan."""

    precision: Literal["float"]
    reason: str
    flops: Count
    operator: Text


class CertifiedGemm(_Form, kw_only=True):
    """What ran of one product."""

    planned: Precision
    kernel: str
    flops_share: Share
    reason: str
    time_share: TimeShare | None = None


class Fallback(_Form, kw_only=True):
    """A GEMM that was planned in INT8 and did not run so."""

    site: str
    kernel: str
    reason: str


class Int8(_Form, kw_only=True):
    """The part of a certificate that says what ran."""

    planned: Count
    executed: Count
    planned_share: Share
    flops_share: Share
    fallbacks: list[Fallback]
    gemms: dict[str, CertifiedGemm]
    summary: str
    short: str
    flops_measured: bool
    executed_share: Share | None = None
    time_share: TimeShare | None = None

    def __post_init__(self) -> None:
        if self.executed > self.planned:
            raise ValueError(f"{self.executed} GEMMs ran in INT8 of {self.planned} that were to")


class Certificate(_Form, kw_only=True):
    """certificate.json."""

    planned_gemms: dict[str, PlannedGemm]
    other_products: dict[str, OtherProduct]
    flops_measured: bool
    int8: Int8 | None = None


class StatisticsOrigin(_Form, kw_only=True):
    """See `qdeploy.calibrate.statistics.Origin`; `digests`, of each site, came later."""

    format: int
    model_sha256: Text
    data: str
    data_hash: str
    rows: Positive
    seed: int
    max_length: Positive
    row_hashes: list[str] = []
    token_classes: list[str] = []
    row_lengths: list[Count] = []
    truncated: Count = 0
    digests: dict[str, str] | None = None
    reading: ReadingForm | None = None


class TokenizerConfig(_Form, kw_only=True):
    """What is read of tokenizer_config.json."""

    truncation_side: Literal["left", "right"] = "right"
    padding_side: Literal["left", "right"] = "right"


MANIFESTS: dict[str, type[Contents]] = {"model": Model, "engine": Engine, "demo": Contents}


def decode(raw: bytes, path: Path, remedy: str, error: type[QDeployError] = ModelError) -> Any:
    """JSON as plain values.

    Args:
        raw: bytes of the file.
        path: of it, for the text.
        remedy: what to do next, for the text.
        error: to raise.

    Raises:
        QDeployError: of the class asked for: no JSON, NaN or infinity, or nested too deeply.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise error(f"{path} cannot be read as JSON: {reason}. {remedy}") from reason


def check(
    value: Any, form: type[T], path: Path, remedy: str, error: type[QDeployError] = ModelError
) -> T:
    """The value as a form.

    Args:
        value: of `decode`.
        form: one of this module's.
        path, remedy, error: of `decode`.

    Raises:
        QDeployError: of the class asked for, with the field at fault.
    """
    try:
        return msgspec.convert(value, form)
    except (msgspec.ValidationError, RecursionError) as reason:
        raise error(f"{path} is damaged: {_plain(str(reason))}. {remedy}") from reason


def _plain(text: str) -> str:
    """msgspec's text with the field's name as one writes it: `$.sites[3].name` is sites[3].name."""
    return text.replace(" - at `$.", " - at `").replace(" - at `$`", " at its top level")
