"""certificate.json: what a certificate is held against, and what ran."""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import (
    Count,
    PairOfTexts,
    Precision,
    Share,
    Text,
    TimeShare,
)


class PlannedGemm(TypedDict):
    """What a certificate is held against, of one GEMM.

    `flops` are operations of a run, `float_flops` those of them that outlier channels take in a
    float GEMM; `marks` are [weight, node] of each of its products.
    """

    precision: Precision
    reason: str
    flops: Count
    float_flops: Count
    marks: list[PairOfTexts]


class OtherProduct(TypedDict):
    """The same of a product that is in no plan."""

    precision: Literal["float"]
    reason: str
    flops: Count
    operator: Text


class CertifiedGemm(TypedDict):
    """What ran of one product; a share of time is None where no run was timed."""

    planned: Precision
    kernel: str
    flops_share: Share
    reason: str
    time_share: TimeShare | None


class Fallback(TypedDict):
    """A GEMM that was planned in INT8 and did not run so."""

    site: str
    kernel: str
    reason: str


class Unplanned(TypedDict):
    """A product that was to stay in float."""

    site: str
    kernel: str
    reason: str
    flops_share: Share


class Tally(TypedDict):
    """Counts and shares of what ran.

    `planned` and `executed` count GEMMs. Of the FLOPs of all products with a constant operand,
    `planned_share` was planned in INT8 and `flops_share` done by INT8 kernels; `executed_share` is
    the second over the first, None where nothing was planned. `time_share` is that of INT8 GEMMs in
    the run's kernel time, None where no run was timed. `unplanned` has the largest first.
    """

    planned: Count
    executed: Count
    planned_share: Share
    executed_share: NotRequired[Share | None]
    flops_share: Share
    time_share: NotRequired[TimeShare | None]
    fallbacks: list[Fallback]
    unplanned: NotRequired[list[Unplanned]]
    gemms: dict[str, CertifiedGemm]


class Told(TypedDict):
    """What is said of a tally, and of the run that it is of.

    `summary` is the sentence that everything prints, `short` the same in a cell. `kernels` counts
    the calls of a run of everything that multiplies matrices. `shape` is [B, S] of the run, of a
    foreign file that of each input. `flops_reason` says why FLOPs are estimates where
    `flops_measured` is False.
    """

    summary: str
    short: str
    flops_measured: bool
    kernels: NotRequired[dict[str, Count]]
    shape: NotRequired[list[int | list[int]]]
    flops_reason: NotRequired[str]


class Int8(Tally, Told):
    """What ran of an engine, or of a foreign file."""


class Compiled(Int8):
    """What a compiler made of an engine where no device was at hand: nothing ran.

    `executed` counts GEMMs that were compiled as planned. `compiler` is its name and version,
    `compute_capabilities` the devices that it compiled for, `launches` the kernels of a run.
    """

    compiler: Text
    compute_capabilities: list[Text]
    launches: Count


class SaturatingGemm(TypedDict):
    """A product that can saturate where pairs of products are added in 16 bits.

    `largest_pair` is the largest sum of two int8 codes of one sign, None where both operands are
    computed; `columns_over` has a pair above the limit.
    """

    gemm: str
    largest_pair: Count | None
    columns_over: Count


class WidenedColumns(TypedDict):
    """Of so many columns of int8 weights those whose scale is wider for their pairs to fit 16 bits,
    and what that adds to the noise of all their rounding, dB."""

    columns: Count
    widened: Count
    noise_db: float


class Processors(TypedDict):
    """On which processors the numbers of INT8 products hold.

    `made_on` is the instruction set of the machine that built the engine. `proved`: no pair of
    codes is above `pair_limit`, in any of so many `products`, so that all instruction sets give the
    same sums.
    """

    made_on: Text
    proved: bool
    products: Count
    largest_pair: Count
    pair_limit: Count
    saturating: list[SaturatingGemm]
    widened: NotRequired[WidenedColumns]
    summary: Text


class Certificate(TypedDict):
    """certificate.json; `int8` is of a run, which a dry run has not."""

    planned_gemms: dict[str, PlannedGemm]
    other_products: dict[str, OtherProduct]
    flops_measured: bool
    int8: NotRequired[Int8 | None]
    compiled: NotRequired[Compiled | None]
    processors: NotRequired[Processors]


def require_possible(found: Certificate) -> None:
    """Refuse what no field alone shows.

    Raises:
        ValueError: more GEMMs ran in INT8 than were to.
    """
    checks: dict[str, Int8 | Compiled | None] = {
        "int8": found.get("int8"),
        "compiled": found.get("compiled"),
    }
    for key, check in checks.items():
        if check and check["executed"] > check["planned"]:
            raise ValueError(
                f"{check['executed']} GEMMs are INT8 of {check['planned']} that were to be - at "
                f"`$.{key}`"
            )
