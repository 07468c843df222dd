"""The report of `analyze`; docs/analysis.md explains the fields.

Levels are dB of the logits' signal to noise ratio, shares 0 … 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from typing_extensions import TypedDict

from qdeploy.schemas.fields import Count, Share, Text
from qdeploy.schemas.manifest import Lengths


class Carrier(TypedDict):
    """A class of token: its share of all tokens, of the outlier channels' energy, and of their
    largest values."""

    tokens: Share
    energy: Share
    holds_peak: Share


class SiteFigures(TypedDict):
    """What statistics say of a site; None of what needs channels, where it has none."""

    channels: Count
    mean: float
    variance: float
    kurtosis: float
    minimum: float
    maximum: float
    energy_top_1pct_channels: float | None
    energy_top_1pct_elements: float
    max_over_median_channel: float | None
    outlier_channels: list[Count]
    outlier_channel_count: Count
    outlier_energy: float
    carriers: dict[str, Carrier] | None


class SiteTreatment(TypedDict):
    """What `peg` does to a site; 0 groups: it stays in float."""

    groups: Count
    outlier_channels: list[Count]
    prescaled: bool
    text: str


class Flips(TypedDict):
    """Answers that change, counted and expected in percent; None where the head answers values."""

    flipped: Count | None
    flip_percent: float | None


class MeasuredCost(Flips):
    """What is left of the logits when a site alone is rounded."""

    alone_db: float


class Cost(MeasuredCost):
    """The same; `gain_db` is what they gain when it alone stays in float. None: not measured."""

    gain_db: float | None


class FewestGroups(TypedDict):
    """The least K that suffices, or None; `sqnr_db` of each K that was measured."""

    groups: int | None
    sqnr_db: dict[str, float]


class SiteRemedy(FewestGroups):
    """The same; `peg_db` with the treatment of `peg`."""

    peg_db: float


class UsedLevels(TypedDict):
    """How often each level −255 … 255 stands, and how many equally frequent ones carry as much."""

    counts: list[Count]
    used: float


class Levels(TypedDict):
    """Under one scale, and under the treatment of `peg`."""

    before: UsedLevels
    after: UsedLevels


class SitePlace(TypedDict):
    """See `qdeploy.analyze.layers.Place`; `stream`: a site of the residual stream."""

    name: Text
    short: str
    kind: str
    layer: int | None
    depth: Count
    stream: bool


class SiteMeasures(TypedDict):
    """What was measured of a site, or None."""

    cost: Cost | None
    remedy: SiteRemedy | None
    levels: Levels | None


class AnalyzedSite(SitePlace, SiteFigures, SiteMeasures):
    """One site: where it stands, its figures, what `peg` does to it, and what was measured."""

    treatment: SiteTreatment
    w8a8_expected_db: float | None
    expected_db: float | None


class MeasuredPlan(Flips):
    """A whole plan that was run; `sites` are those in 8 bits."""

    strategy: str
    scope: str
    sites: Count
    float_sites: list[str]
    sqnr_db: float


class Recommendation(TypedDict):
    """A sentence, and the sites that it is about; `alone_db` of the costliest of them."""

    text: str
    sites: list[str]
    alone_db: float | None


class NextBuild(TypedDict):
    """What to run next, and why; `plan` is which of the plans it is, None where none was run."""

    options: dict[str, Any]  # keywords of `qdeploy.build`
    command: str
    plan: int | None
    reason: str


class RecurringChannel(TypedDict):
    """An outlier channel that comes back; `channels` is the width of its sites."""

    channel: Count
    channels: Count
    depths: list[Count]
    sites: Count


class HeatMap(TypedDict):
    """Per layer, each channel's largest |x| over the median channel's."""

    kind: str
    layers: list[int | None]
    values: list[list[float]]


class LeftOut(TypedDict):
    """Names of sites that time ran out for."""

    costs: list[str]
    remedies: list[str]
    gains: list[str]


class AnalyzedRows(Lengths):
    """The rows that statistics are of."""

    source: str
    rows: Count


class Analysis(TypedDict):
    """What `analyze` returns; of a run without costs those fields are None, 0 or empty."""

    schema: int
    kind: Literal["analysis"]
    model: str
    data: AnalyzedRows
    scope: str
    activations: str
    versions: dict[str, str]
    w8a8_db: float | None
    cost_rows: Count
    seconds: float | None
    answers: Count | None
    plans: list[MeasuredPlan]
    left_out: LeftOut
    recommendations: list[Recommendation]
    build: NextBuild
    recurring: list[RecurringChannel]
    heat_map: HeatMap | None
    sites: list[AnalyzedSite]


def is_analysis(report: Mapping[str, object]) -> TypeGuard[Analysis]:
    """Whether a report of ours is one of `analyze`: reports name their kind."""
    return report.get("kind") == "analysis"
