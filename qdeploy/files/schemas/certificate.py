"""certificate.json."""

from __future__ import annotations

from typing import Literal

import msgspec

from qdeploy.files.schemas.fields import (
    Count,
    Precision,
    Share,
    Text,
    TimeShare,
)


class PlannedGemm(msgspec.Struct, kw_only=True):
    """What a certificate is held against, of one GEMM."""

    precision: Precision
    reason: str
    flops: Count
    float_flops: Count
    marks: list[tuple[str, str]]


class OtherProduct(msgspec.Struct, kw_only=True):
    """The same of a product that is in no plan."""

    precision: Literal["float"]
    reason: str
    flops: Count
    operator: Text


class CertifiedGemm(msgspec.Struct, kw_only=True):
    """What ran of one product."""

    planned: Precision
    kernel: str
    flops_share: Share
    reason: str
    time_share: TimeShare | None = None


class Fallback(msgspec.Struct, kw_only=True):
    """A GEMM that was planned in INT8 and did not run so."""

    site: str
    kernel: str
    reason: str


class Int8(msgspec.Struct, kw_only=True):
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


class Certificate(msgspec.Struct, kw_only=True):
    """certificate.json."""

    planned_gemms: dict[str, PlannedGemm]
    other_products: dict[str, OtherProduct]
    flops_measured: bool
    int8: Int8 | None = None
