"""qdeploy.json of model, engine and demo directories."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.autotune import Forms, StrategySearch, TargetChoice
from qdeploy.schemas.fields import (
    Count,
    Digest,
    FileName,
    Positive,
    Shape,
    TaskName,
    Text,
    Token,
)
from qdeploy.schemas.reading import ReadingFields
from qdeploy.schemas.source import Source


class Contents(TypedDict):
    """What every manifest says of its directory.

    `files` has the sha256 of each. `sizes`, bytes, `sealed`, digests of the other fields, and
    `digest`, of the file itself (`qdeploy.files.own_digest`), came with later versions.
    """

    schema: Positive
    kind: Text
    files: NotRequired[dict[FileName, Digest]]
    sizes: NotRequired[dict[FileName, Count]]
    sealed: NotRequired[dict[str, str]]
    versions: NotRequired[dict[str, str]]
    digest: NotRequired[Digest]


class EmbeddingFacts(TypedDict):
    """How an embedding model makes vectors of texts.

    `pooling` are the modes of sentence-transformers, `dimension` the length of a vector,
    `normalized` whether it has length 1, `weighted` whether layers with weights follow the pooling,
    `prompts` what stands in front of a text, by name.
    """

    pooling: list[str]
    dimension: Positive
    normalized: bool
    weighted: NotRequired[bool]
    prompts: NotRequired[dict[str, str]]
    default_prompt: NotRequired[str | None]
    similarity: NotRequired[str | None]


class HeadFacts(TypedDict):
    """What config.json says of the head; see `qdeploy.head.Head`."""

    problem_type: NotRequired[str | None]
    function_to_apply: NotRequired[str | None]
    activation: NotRequired[str | None]
    embedding: NotRequired[EmbeddingFacts | None]


class Interface(TypedDict):
    """What a model and its engines take and give, and how they were made."""

    labels: list[str]
    task: TaskName
    max_length: Positive
    pad_token_id: Token
    inputs: Annotated[list[Text], Meta(min_length=1)]
    outputs: Annotated[list[Text], Meta(min_length=1)]
    source: Source
    head: NotRequired[HeadFacts | None]
    vocabulary: NotRequired[Positive | None]
    model_type: NotRequired[str | None]
    command: NotRequired[str]
    seed: NotRequired[int]


class Verification(TypedDict):
    """What was compared with torch and transformers, and how far it agrees.

    Of an ONNX file the outputs are compared with that file instead, in ONNX Runtime; of one in
    FP16 with its weights in FP32, and `max_rel_diff_fp16` is against the file as it stands.
    """

    max_rel_diff_fp16: NotRequired[float]
    max_abs_diff: NotRequired[float]
    max_rel_diff: NotRequired[float]
    fp32_rounding: NotRequired[float]
    shapes: NotRequired[list[list[int]]]
    tokenizer_rows: NotRequired[int]


class ModelFields(Interface):
    """What `export` writes of a model."""

    hidden_size: NotRequired[int]
    licences: NotRequired[list[str]]
    verification: NotRequired[Verification]


class ModelManifest(Contents, ModelFields):
    """qdeploy.json of a model directory."""


class Lengths(TypedDict):
    """Tokens of a set of rows; see `qdeploy.data.lengths.RowLengths`."""

    max_length: Positive
    truncated: Count
    truncated_share: NotRequired[float]
    lengths: NotRequired[dict[str, float]]


class Calibration(Lengths):
    """Rows that calibrated an engine."""

    data: str
    data_hash: NotRequired[str]
    rows: Positive
    seed: int
    row_lengths: NotRequired[list[Count]]
    row_hashes: NotRequired[list[str]]


class Shapes(TypedDict):
    """Rows and tokens that a compiled engine takes."""

    min: NotRequired[Shape | None]
    opt: NotRequired[Shape | None]
    max: NotRequired[Shape | None]


class Device(TypedDict):
    """A GPU."""

    name: str
    compute_capability: str
    int8_tensor_cores: bool
    memory_mb: float
    driver: int
    runtime: int


class Builder(TypedDict):
    """What compiled an engine."""

    tensorrt: NotRequired[str]
    tensorrt_rtx: NotRequired[str]
    compute_capabilities: NotRequired[list[str]]
    device: NotRequired[Device | None]
    shapes: NotRequired[Shapes | None]
    workspace_mb: NotRequired[int | None]
    version_compatible: NotRequired[bool]
    refit: NotRequired[bool]


class NoisySite(TypedDict):
    """A site, and the SQNR of the logits when it alone is quantized; None: not finite."""

    site: str
    alone_db: float | None


class Remedy(TypedDict):
    """The sites that were tried in float, and the SQNR that gave."""

    float_sites: list[str]
    sqnr_db: float | None


class Noise(TypedDict):
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
    floor_db: NotRequired[float]
    sources: NotRequired[list[NoisySite]]
    remedy: NotRequired[Remedy | None]


class CompiledFields(TypedDict):
    """What a target that compiles adds; `cuda_graph`: a run is launched as one CUDA graph."""

    builder: NotRequired[Builder | None]
    cuda_graph: NotRequired[bool]


class ChosenFields(TypedDict):
    """What is known of an engine that was one of several, once it is kept."""

    noise: NotRequired[Noise | None]
    data: NotRequired[ReadingFields | None]
    forms: NotRequired[Forms]
    auto: NotRequired[TargetChoice]
    search: NotRequired[StrategySearch]


class LeftOutFields(TypedDict):
    """Work that is left out since it changes no answer: see `qdeploy.deploy.passes.leave_out`.

    `asked` is the option --padding; `reason` says why padding is kept, where it was to go.
    """

    asked: str
    padding_removed: bool
    reason: str
    unread_nodes: int


class EstimateFields(TypedDict):
    """An estimate of a run's time, by device; nothing in it is measured, and `note` says so.

    `shape` are rows and tokens of the run; see `qdeploy.deploy.roofline.estimate`.
    """

    note: Text
    shape: Shape
    estimated_ms: dict[str, float]


class Origin(TypedDict):
    """The checkpoint of an engine: its weights' sha256, and licences as it names them."""

    name: Text
    sha256: str
    revision: NotRequired[str | None]
    licences: NotRequired[list[str]]


class EngineFields(Interface, CompiledFields, ChosenFields):
    """What `build` writes of an engine."""

    target: Text
    strategy: Text
    scope: Text
    opt_shape: Shape
    checkpoint: NotRequired[Text | None]
    origin: NotRequired[Origin]
    rest_precision: NotRequired[Text]
    dry_run: NotRequired[bool]
    calibration: NotRequired[Calibration | None]
    options: NotRequired[dict[str, object]]
    left_out: NotRequired[LeftOutFields]
    estimate: NotRequired[EstimateFields]


class EngineManifest(Contents, EngineFields):
    """qdeploy.json of an engine directory."""


def require_possible(found: Interface) -> None:
    """Refuse what no field alone shows, of a model or an engine.

    Raises:
        ValueError: names that stand twice, or a source that is none or two.
    """
    for what, names in (("inputs", found["inputs"]), ("outputs", found["outputs"])):
        if len(set(names)) < len(names):
            raise ValueError(f"{what} names one twice")
    source = found["source"]
    if (source.get("path") is None) == (source.get("id") is None):
        raise ValueError("`path` or `id` is expected, and one of them - at `$.source`")


def require_possible_engine(found: EngineManifest) -> None:
    """The same of an engine, and of its noise.

    Raises:
        ValueError: see `require_possible`; or figures of noise are missing.
    """
    require_possible(found)
    noise = found.get("noise")
    differs = noise and noise["finite"] and not noise["equal"]
    if noise and differs and None in (noise["sqnr_db"], noise["max_abs_diff"]):
        raise ValueError("outputs that differ have `sqnr_db` and `max_abs_diff` - at `$.noise`")
