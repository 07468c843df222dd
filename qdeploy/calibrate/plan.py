"""The plan: what happens to each site, GEMM and table, as pure data that knows no target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from qdeploy.calibrate.affine import Affine
from qdeploy.errors import PlanError

SCHEMA = 1
INT8, FLOAT = "int8", "float"


@dataclass(frozen=True)
class Float:
    """The tensor stays in floating point."""

    kind = "float"


@dataclass(frozen=True)
class Dynamic:
    """Scale and zero point are found at run time, per tensor."""

    kind = "dynamic"


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor.

    Attributes:
        affine: scale and zero point.
        prescale: per channel [C], the tensor is multiplied by it before it is quantized and the
            rows of the reading weights are divided by it (SmoothQuant); empty for none.
    """

    affine: Affine
    prescale: tuple[float, ...] = ()
    kind = "per_tensor"


@dataclass(frozen=True)
class Grouped:
    """K groups of channels, each with its own scale (PEG).

    Attributes:
        groups: channel indices of each group; together with `outlier_channels` a partition of C.
        affines: scale and zero point of each group.
        outlier_channels: channels that stay in floating point.
    """

    groups: tuple[tuple[int, ...], ...]
    affines: tuple[Affine, ...]
    outlier_channels: tuple[int, ...] = ()
    kind = "grouped"


Treatment = Float | Dynamic | PerTensor | Grouped
_TREATMENTS: dict[str, type[Treatment]] = {t.kind: t for t in (Float, Dynamic, PerTensor, Grouped)}


@dataclass(frozen=True)
class SitePlan:
    """The treatment of one site, why, and what it is expected to cost.

    Attributes:
        name, tensor: the site.
        treatment: what happens to it.
        reason: one clause for a reader.
        sqnr_db: expected signal to rounding-noise ratio in dB (for the input of a GEMM: at the
            GEMM's output); None where the tensor stays in float.
        mean: of each channel [C], for the biases of the GEMMs behind it (`Lowering`); empty for no
            correction. Not part of plan.json.
    """

    name: str
    tensor: str
    treatment: Treatment
    reason: str
    sqnr_db: float | None = None
    mean: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class GemmPlan:
    """One GEMM: its precision ("int8" or "float") and why."""

    name: str
    weight: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The whole plan of a model.

    Attributes:
        strategy: name of the strategy.
        scope: "gemm" or "all".
        activations: "asymmetric" or "symmetric".
        per_channel_weights: one scale per output channel, else per tensor.
        sites: plans by tensor name, in graph order.
        gemms: plans by GEMM name, in graph order.
        tables: names of the embedding tables stored as int8 with row-wise scales.
        options: the options of the strategy, for the reader.
    """

    strategy: str
    scope: str
    activations: str
    per_channel_weights: bool
    sites: dict[str, SitePlan]
    gemms: dict[str, GemmPlan]
    tables: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def int8_gemms(self) -> tuple[str, ...]:
        """Names of the GEMMs that must run as INT8 kernels."""
        return tuple(name for name, gemm in self.gemms.items() if gemm.precision == INT8)

    def treatment(self, tensor: str) -> Treatment:
        """What happens to a tensor; `Float` for one that is no site of this plan."""
        return self.sites[tensor].treatment if tensor in self.sites else Float()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form, the content of `plan.json`."""
        return {
            "schema": SCHEMA,
            "strategy": self.strategy,
            "scope": self.scope,
            "activations": self.activations,
            "weights": "per-channel" if self.per_channel_weights else "per-tensor",
            "options": self.options,
            "sites": [_site_json(site) for site in self.sites.values()],
            "gemms": [asdict(gemm) for gemm in self.gemms.values()],
            "tables": list(self.tables),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """The inverse of `to_json`.

        Raises:
            PlanError: another schema, or a field missing.
        """
        if value.get("schema") != SCHEMA:
            raise PlanError(
                f"plan.json has schema {value.get('schema')}, and this qdeploy reads {SCHEMA}. "
                "Build the engine again."
            )
        try:
            sites = [_site_from_json(site) for site in value["sites"]]
            gemms = [GemmPlan(**gemm) for gemm in value["gemms"]]
            return cls(
                strategy=value["strategy"],
                scope=value["scope"],
                activations=value["activations"],
                per_channel_weights=value["weights"] == "per-channel",
                sites={site.tensor: site for site in sites},
                gemms={gemm.name: gemm for gemm in gemms},
                tables=tuple(value["tables"]),
                options=value["options"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PlanError(f"plan.json is damaged: {error}. Build the engine again.") from error


def _site_json(site: SitePlan) -> dict[str, Any]:
    fields = asdict(site) | {"treatment": {"kind": site.treatment.kind} | asdict(site.treatment)}
    del fields["mean"]
    return fields


def _site_from_json(value: dict[str, Any]) -> SitePlan:
    fields = dict(value["treatment"])
    kind = _TREATMENTS[fields.pop("kind")]
    if "affine" in fields:
        fields["affine"] = Affine(**fields["affine"])
        fields["prescale"] = tuple(fields["prescale"])
    if "affines" in fields:
        fields["affines"] = tuple(Affine(**affine) for affine in fields["affines"])
        fields["groups"] = tuple(tuple(group) for group in fields["groups"])
        fields["outlier_channels"] = tuple(fields["outlier_channels"])
    return SitePlan(**(value | {"treatment": kind(**fields)}))
