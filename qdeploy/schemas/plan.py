"""plan.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qdeploy.schemas.fields import (
    Code,
    Count,
    Positive,
    Precision,
    Scale,
    Text,
)


class AffineForm(msgspec.Struct, kw_only=True):
    """See `qdeploy.calibrate.affine.Affine`."""

    scale: Scale
    zero_point: Code


class FloatForm(msgspec.Struct, kw_only=True, tag_field="kind", tag="float"):
    """See `qdeploy.calibrate.plan.Float`."""


class DynamicForm(msgspec.Struct, kw_only=True, tag_field="kind", tag="dynamic"):
    """See `qdeploy.calibrate.plan.Dynamic`."""


class PerTensorForm(msgspec.Struct, kw_only=True, tag_field="kind", tag="per_tensor"):
    """See `qdeploy.calibrate.plan.PerTensor`."""

    affine: AffineForm
    prescale: list[Scale] = []
    preshift: list[float] = []


class GroupedForm(msgspec.Struct, kw_only=True, tag_field="kind", tag="grouped"):
    """See `qdeploy.calibrate.plan.Grouped`."""

    groups: Annotated[list[Annotated[list[Count], Meta(min_length=1)]], Meta(min_length=1)]
    affines: list[AffineForm]
    outlier_channels: list[Count] = []
    outlier_peaks: list[Scale] = []


class SiteForm(msgspec.Struct, kw_only=True):
    """See `qdeploy.calibrate.plan.SitePlan`."""

    name: Text
    tensor: Text
    treatment: FloatForm | DynamicForm | PerTensorForm | GroupedForm
    reason: str
    sqnr_db: float | None = None


class GemmForm(msgspec.Struct, kw_only=True):
    """See `qdeploy.calibrate.plan.GemmPlan`."""

    name: Text
    weight: Text
    precision: Precision
    reason: str


class PlanForm(msgspec.Struct, kw_only=True):
    """plan.json."""

    schema: Positive
    strategy: Text
    scope: Text
    activations: Literal["asymmetric", "symmetric", "e4m3"]
    weights: Literal["per-channel", "per-tensor"]
    options: dict[str, Any]
    sites: list[SiteForm]
    gemms: list[GemmForm]
    tables: list[Text]
