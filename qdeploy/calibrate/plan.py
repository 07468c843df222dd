"""The plan: what happens to each site, GEMM and table, as pure data that knows no target."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.options import ANY_CPU
from qdeploy.errors import PlanError
from qdeploy.files.artifact import read_json
from qdeploy.schemas.checked import check
from qdeploy.schemas.fields import Precision
from qdeploy.schemas.plan import AffineForm, GroupedForm, PerTensorForm, PlanForm, SiteForm
from qdeploy.types import Array

SCHEMA = 1
PLAN = "plan.json"
_AGAIN = "Build the engine again."
INT8: Final = "int8"
FP8: Final = "fp8"
FLOAT: Final = "float"


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
        pre_quant_scale: per channel [C], the tensor is multiplied by it before it is quantized, and
            the rows of the reading weights are divided by it (SmoothQuant); empty for none.
        pre_quant_shift: per channel [C], taken off before that, and what it was adds to the biases
            of the reading GEMMs (Wei et al. 2023, arXiv 2304.09145, §3.1); empty for none.
    """

    affine: Affine
    pre_quant_scale: tuple[float, ...] = ()
    pre_quant_shift: tuple[float, ...] = ()
    kind = "per_tensor"


@dataclass(frozen=True)
class Grouped:
    """K groups of channels, each with its own scale (PEG).

    Attributes:
        groups: channel indices of each group; together with `outlier_channels` a partition of C.
        affines: scale and zero point of each group.
        outlier_channels: channels that stay in floating point, where the target does not split them
            (`qdeploy.deploy.lowering.channel_splits`).
        outlier_peaks: the largest magnitude that was seen of each; empty where that is not known.
    """

    groups: tuple[tuple[int, ...], ...]
    affines: tuple[Affine, ...]
    outlier_channels: tuple[int, ...] = ()
    outlier_peaks: tuple[float, ...] = ()
    kind = "grouped"


Treatment = Float | Dynamic | PerTensor | Grouped
# Fields that have another name in plan.json, which keeps the form it was first written in.
_JSON_NAMES = {"pre_quant_scale": "prescale", "pre_quant_shift": "preshift"}
_WITHOUT_FIELDS: dict[str | int | None, Treatment] = {t.kind: t() for t in (Float, Dynamic)}


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
        covariance: of the channels, FP64 [C, C], for the rounding of the weights behind it
            (`qdeploy.calibrate.compensated`); None rounds to nearest. Not part of plan.json.
    """

    name: str
    tensor: str
    treatment: Treatment
    reason: str
    sqnr_db: float | None = None
    mean: tuple[float, ...] = field(default=(), compare=False)
    covariance: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class GemmPlan:
    """One GEMM: its precision ("int8", "fp8" or "float") and why."""

    name: str
    weight: str
    precision: Precision
    reason: str


@dataclass(frozen=True)
class Plan:
    """The whole plan of a model.

    Attributes:
        strategy: name of the strategy.
        scope: "gemm" or "all".
        activations: "asymmetric" or "symmetric" of 8-bit integers, or "e4m3" of FP8.
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
    options: dict[str, object] = field(default_factory=dict)

    @property
    def int8_gemms(self) -> tuple[str, ...]:
        """Names of the GEMMs that must run as INT8 kernels."""
        return tuple(name for name, gemm in self.gemms.items() if gemm.precision == INT8)

    @property
    def quantized_gemms(self) -> tuple[str, ...]:
        """Names of the GEMMs that must run in 8 bits, INT8 or FP8."""
        return tuple(name for name, gemm in self.gemms.items() if gemm.precision != FLOAT)

    @property
    def any_cpu(self) -> bool:
        """Whether its weights are to be the same numbers on every processor."""
        return self.options.get("cpu", ANY_CPU) == ANY_CPU

    def treatment(self, tensor: str) -> Treatment:
        """What happens to a tensor; `Float` for one that is no site of this plan."""
        return self.sites[tensor].treatment if tensor in self.sites else Float()

    def to_json(self) -> dict[str, object]:
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
    def from_json(cls, value: object, path: Path = Path(PLAN)) -> Plan:
        """The inverse of `to_json`.

        Args:
            path: of the file, for texts.

        Raises:
            PlanError: another schema, a field that is missing or impossible, a name that stands
                twice, or groups that are no partition of the channels.
        """
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise PlanError(
                f"{path} was written by a newer qdeploy. Use that version, or a later one."
            )
        form = check(value, PlanForm, path, _AGAIN, PlanError)
        sites = [_site_of(site, path) for site in form.sites]
        gemms = [GemmPlan(g.name, g.weight, g.precision, g.reason) for g in form.gemms]
        for names in ([s.tensor for s in sites], [g.name for g in gemms]):
            if twice := [name for name, n in Counter(names).items() if n > 1]:
                raise PlanError(f"{path} is damaged: {twice[0]} stands in it twice. {_AGAIN}")
        return cls(
            strategy=form.strategy,
            scope=form.scope,
            activations=form.activations,
            per_channel_weights=form.weights == "per-channel",
            sites={site.tensor: site for site in sites},
            gemms={gemm.name: gemm for gemm in gemms},
            tables=tuple(form.tables),
            options=form.options,
        )


def read_plan(directory: Path) -> Plan:
    """The plan of an engine directory.

    Raises:
        ModelError: it is missing or cannot be read.
        PlanError: see `Plan.from_json`.
    """
    path = directory / PLAN
    return Plan.from_json(read_json(path, _AGAIN), path)


def _site_json(site: SitePlan) -> dict[str, object]:
    treatment = {_JSON_NAMES.get(key, key): part for key, part in asdict(site.treatment).items()}
    fields = asdict(replace(site, covariance=None)) | {
        "treatment": {"kind": site.treatment.kind} | treatment
    }
    del fields["mean"], fields["covariance"]
    return fields


def _site_of(form: SiteForm, path: Path) -> SitePlan:
    return SitePlan(
        form.name, form.tensor, _treatment_of(form, path), form.reason, sqnr_db=form.sqnr_db
    )


def _treatment_of(site: SiteForm, path: Path) -> Treatment:
    form = site.treatment
    if isinstance(form, PerTensorForm):
        if form.preshift and len(form.preshift) != len(form.prescale):
            raise PlanError(
                f"{path} is damaged: {site.name} has other shifts than factors. {_AGAIN}"
            )
        return PerTensor(_affine_of(form.affine), tuple(form.prescale), tuple(form.preshift))
    if not isinstance(form, GroupedForm):
        return _WITHOUT_FIELDS[type(form).__struct_config__.tag]
    channels = sorted([c for group in form.groups for c in group] + form.outlier_channels)
    known = len(form.outlier_peaks) in (0, len(form.outlier_channels))
    if channels != list(range(len(channels))) or len(form.affines) != len(form.groups) or not known:
        raise PlanError(
            f"{path} is damaged: the groups of {site.name} are no partition of its channels with a "
            f"scale each. {_AGAIN}"
        )
    return Grouped(
        tuple(map(tuple, form.groups)),
        tuple(map(_affine_of, form.affines)),
        tuple(form.outlier_channels),
        tuple(form.outlier_peaks),
    )


def _affine_of(form: AffineForm) -> Affine:
    return Affine(form.scale, form.zero_point)
