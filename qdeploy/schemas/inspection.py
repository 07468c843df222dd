"""What `inspect` says of a model, an engine or an ONNX file of anybody."""

from __future__ import annotations

from typing import Literal, TypeAlias

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.certificate import (
    Compiled,
    Int8,
    OtherProduct,
    PlannedGemm,
    Processors,
)
from qdeploy.schemas.fields import Count, Positive, Precision, Share, TaskName, TimeShare
from qdeploy.schemas.manifest import (
    Calibration,
    EstimateFields,
    HeadFacts,
    LeftOutFields,
    Noise,
    Verification,
)
from qdeploy.schemas.source import Source


class KeptStatistics(TypedDict):
    """A file of statistics, and the rows that it is of; of a damaged one its name alone."""

    file: str
    damaged: bool
    data: NotRequired[str]
    rows: NotRequired[Count]
    seed: NotRequired[int]
    max_length: NotRequired[Count]


class SharedFacts(TypedDict):
    """What the manifests of a model and of its engines have in common."""

    model_type: str | None
    task: TaskName
    labels: list[str]
    head: HeadFacts | None
    max_length: Positive
    inputs: list[str]
    source: Source


class InspectedModel(SharedFacts):
    """A model directory; `embedding_tables` are [rows, columns] by name."""

    kind: Literal["model"]
    verification: Verification | None
    size_mb: float
    gemms: Count
    sites: Count
    embedding_tables: dict[str, list[int]]
    statistics: list[KeptStatistics]


class SiteLevel(TypedDict):
    """A site, and the SQNR that is expected of it."""

    site: str
    sqnr_db: float


class RoundedSite(TypedDict):
    """A site, how it is rounded in one of a few words, and the SQNR that is expected of it."""

    site: str
    rounding: str
    sqnr_db: float | None


class InspectedSite(RoundedSite):
    """The same, with what the plan says."""

    treatment: str
    treatment_text: str
    reason: str


class LayerProducts(TypedDict):
    """Products of a layer; `executed` is None where no kernel was looked at."""

    gemms: Count
    planned: Count
    executed: Count | None
    flops_share: float
    time_share: TimeShare | None


class LayerSites(TypedDict):
    """Sites of a layer: how many are rounded how, and the noisiest."""

    treatments: dict[str, Count]
    noisiest: SiteLevel | None


class Layer(LayerProducts, LayerSites):
    """One row of `qdeploy.deploy.by_layer.by_layer`."""

    layer: str


class FloatCause(TypedDict):
    """Why products do not run in INT8; `gemms` are the first of them."""

    planned: Precision
    reason: str
    count: Count
    flops_share: float
    gemms: list[str]


# The key "float" has classes of its own: in their bodies the word is no type.
class FloatCauses(TypedDict):
    """What does not run in INT8, by cause."""

    float: list[FloatCause]


class MayHaveFloatCauses(TypedDict):
    """The same, where kernels were looked at."""

    float: NotRequired[list[FloatCause]]


class PlannedFacts(TypedDict):
    """What an engine's manifest has beside."""

    checkpoint: str | None
    strategy: str
    target: str
    scope: str
    rest_precision: str | None
    options: dict[str, object] | None
    dry_run: bool | None
    noise: Noise | None
    left_out: LeftOutFields | None


class InspectedEngine(SharedFacts, PlannedFacts, FloatCauses):
    """An engine directory; `calibration` is without what it has of each row."""

    kind: Literal["engine"]
    calibration: Calibration | None
    size_mb: float
    planned_share: Share
    noisiest: list[SiteLevel]
    layers: list[Layer]
    sites: list[InspectedSite]
    planned_gemms: dict[str, PlannedGemm]
    other_products: dict[str, OtherProduct]
    int8: Int8 | None
    compiled: Compiled | None
    processors: Processors | None
    estimate: EstimateFields | None


class Place(TypedDict):
    """A node that breaks a rule, and how."""

    node: str
    text: str


class RuleSummary(TypedDict):
    """A rule, how often it is broken, the remedy at the first place, and the first places."""

    rule: str
    severity: str
    count: Count
    remedy: str
    places: list[Place]


class FoundViolation(Place):
    """One place where a rule is broken."""

    rule: str
    severity: str
    remedy: str


class Contract(TypedDict):
    """A file held against a target's rules."""

    target: str
    errors: Count
    advice: Count
    rules: list[RuleSummary]
    violations: list[FoundViolation]


class CompiledFile(TypedDict):
    """What a compiler makes of an ONNX file where no device is at hand: nothing ran.

    `summary` is the sentence that everything prints. `compiler` is its name and version, empty
    where it did not come that far. `shapes` are [least, usual, largest] of each input with free
    axes. `refused` has every reason why the file does not compile. `products` are those with a
    constant operand, None of what does not compile; `in_float` says why some are not in 8 bits.
    """

    summary: str
    compiler: str
    shapes: dict[str, list[list[Count]]]
    refused: list[str]
    products: Compiled | None
    in_float: list[FloatCause]


class InspectedFile(MayHaveFloatCauses):
    """An ONNX file: its kernels, or where it breaks a target's rules.

    `vocabulary`: rows of the table that token ids pick from, where one is found.
    `compiled` stands beside `contract` where a compiler is installed that needs no device.
    `planned_gemms_of_engine` stands where the file is an engine's, which plans another number.
    """

    kind: Literal["onnx"]
    inputs: dict[str, str]
    outputs: dict[str, str]
    vocabulary: Count | None
    operators: dict[str, Count]
    contract: NotRequired[Contract]
    compiled: NotRequired[CompiledFile]
    int8: NotRequired[Int8]
    processors: NotRequired[Processors]
    layers: NotRequired[list[Layer]]
    planned_gemms_of_engine: NotRequired[Count]


Inspection: TypeAlias = InspectedModel | InspectedEngine | InspectedFile
