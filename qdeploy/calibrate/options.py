"""The options of a calibration and of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qdeploy import common_options as common
from qdeploy.calibrate.schemes import ASYMMETRIC, SCHEMES
from qdeploy.options import Options, flat, option
from qdeploy.types import PathLike

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

GEMM_SCOPE, ALL_SCOPE = "gemm", "all"
SCOPES = (GEMM_SCOPE, ALL_SCOPE)
WEIGHTS = ("per-channel", "per-tensor")
NEAREST, COMPENSATED = "nearest", "compensated"
MIXED_SETS = ("ffn", "auto")
AUTO, NONE = "auto", "none"
FOLDED, EVERYWHERE = "folded", "everywhere"
ANY_CPU, NATIVE = "any", "native"
PRE_QUANT_SCALES = (NONE, FOLDED, EVERYWHERE)
# A group of a GEMM's input is a product of its own, so that graph and time grow with K. The paper's
# accuracy is back at K = 4 (docs/reproduction.md).
MOST_GROUPS = 32
# Noise targets, dB: of most heads, and of those that rank texts (docs/heads.md, "Measured").
NOISE_TARGET, RANKS = 30.0, 36.0
_WHY_SO_MANY = "Each group is a product of its own: more of them cost time and mend nothing."


# Headings of help.
ROUNDED, HOW = "What is rounded", "How it is rounded"
PEG = "Only with --strategy peg"
OTHERS = "Only with another --strategy, named first"
BUILDER = "Only with --target tensorrt, tensorrt-rtx, ort-tensorrt or ort-tensorrt-rtx"


def scope_option() -> str:
    """--scope."""
    return option(
        GEMM_SCOPE,
        "Inputs and weights of GEMMs and embedding tables, or every activation.",
        group=ROUNDED,
        choices=SCOPES,
    )


@dataclass(frozen=True)
class CalibrationOptions(Options):
    """Which rows are observed. `columns` may be `qdeploy.data.Columns` too."""

    data: PathLike | None = common.calibration_data()
    task: str = common.task()
    columns: Columns | str | None = common.columns()
    calibration_rows: int = common.calibration_rows()
    max_length: int | None = common.max_length()
    statistics: PathLike | None = common.statistics()
    seed: int = common.seed()


@dataclass(frozen=True)
class PlanOptions(Options):
    """What a user may choose about a plan.

    `outlier_channels` is None for "auto" with automatic groups and "none" where K is given, so that
    groupings compare. `float_sites` may be one text with commas.
    """

    scope: str = scope_option()
    activations: str | None = option(
        None,
        "uint8 with a zero point, or int8 without one. The target's own when left out.",
        group=HOW,
        choices=SCHEMES,
    )
    weights: str = option("per-channel", "Scales of the int8 weights.", group=HOW, choices=WEIGHTS)
    weight_rounding: str = option(
        NEAREST,
        "Each weight to the nearest code; or compensated: what one rounding adds to the outputs is"
        " taken back by those that follow (GPTQ). Costs build time and memory alone.",
        group=PEG,
        choices=(NEAREST, COMPENSATED),
    )
    cpu: str = option(
        ANY_CPU,
        "any: no INT8 product can saturate on a processor without VNNI (AVX2, the first AVX-512)."
        " native: whatever this machine's processor multiplies as it is. Of CPU targets.",
        group=HOW,
        choices=(ANY_CPU, NATIVE),
    )
    percentile: float = option(
        99.99,
        "percentile: percent of the values kept on each side.",
        group=OTHERS,
        number=float,
        above=50,
        most=100,
        metavar="P",
    )
    mixed: str = option(
        "ffn",
        "mixed: sites in float; ffn is FFN input, FFN output and residual sum, auto the noisiest.",
        group=OTHERS,
        choices=MIXED_SETS,
    )
    alpha: float | str = option(
        AUTO,
        "smoothquant: 0 to 1, how much of the range moves from activations into weights.",
        group=OTHERS,
        number=float,
        least=0,
        most=1,
        words=(AUTO,),
        metavar="[A|auto]",
    )
    grouping: str = option(
        "optimal",
        "How channels are cut into groups.",
        group=PEG,
        choices="qdeploy.calibrate.grouping:GROUPINGS",
    )
    groups: int | str = option(
        AUTO,
        "Groups of channels per site, at most 32: each is a product of its own. auto takes what the"
        " noise asks for.",
        group=PEG,
        number=int,
        least=1,
        most=MOST_GROUPS,
        why=_WHY_SO_MANY,
        words=(AUTO,),
        metavar="[K|auto]",
    )
    outlier_channels: int | str | None = option(
        None,
        "Channels per GEMM input that stay in floating point. When left out: auto with automatic"
        " groups, none where --groups is a number.",
        group=PEG,
        number=int,
        least=0,
        words=(AUTO, NONE),
        metavar="[N|auto|none]",
    )
    prescale: str | None = option(
        None,
        "GEMM inputs that are scaled by channel in front of one scale where that helps; folded is"
        " where the factors become part of weights before. Scope gemm only. When left out: where it"
        " costs nothing on the target with automatic groups, none where --groups is a number.",
        group=PEG,
        choices=PRE_QUANT_SCALES,
    )
    shift: bool = option(
        False,
        "Take the middle of each channel's range off behind LayerNormalizations (OS+), and have"
        " factors there where they help at all: less noise, for one more LayerNormalization each.",
        group=PEG,
    )
    sensitivity: bool = option(
        False,
        "Measure how much of each GEMM input's noise comes out of the model, and ask more of those"
        " that matter and less of the others. Costs build time.",
        group=PEG,
    )
    noise_target: float | None = option(
        None,
        "A GEMM input whose rounding noise is less than this below the output is treated. 30 when"
        " left out, and 36 of embedding models and rerankers: ranks ask for more.",
        group=PEG,
        number=float,
        above=0,
        most=100,
        metavar="DB",
    )
    float_sites: Sequence[str] | str = option(
        (),
        "Sites that stay in float, with the GEMMs that read them; `qdeploy analyze` names them.",
        group=ROUNDED,
        metavar="NAME,...",
    )
    int8_residuals: bool = option(
        False,
        "Round the skip branch of residual sums too, so that the sum can run in INT8.",
        group=BUILDER,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "float_sites", _names_of(self.float_sites))

    @property
    def scheme(self) -> str:
        """The activation scheme; uint8 where no target has filled in its own."""
        return self.activations or ASYMMETRIC

    @property
    def least_db(self) -> float:
        """The noise target; that of most heads where none was filled in."""
        return NOISE_TARGET if self.noise_target is None else self.noise_target

    def reaching(self, noise_target: float) -> PlanOptions:
        """With a noise target, dB, where none was given."""
        return self if self.noise_target is not None else replace(self, noise_target=noise_target)

    def resolved(self, activations: str, pre_quant_scale: str) -> PlanOptions:
        """With what is left out filled in.

        Args:
            activations, pre_quant_scale: the target's own.
        """
        automatic = self.scope == GEMM_SCOPE and self.groups == AUTO
        own = pre_quant_scale if automatic else NONE
        return replace(
            self,
            activations=self.activations or activations,
            prescale=own if self.prescale is None else self.prescale,
        )

    @property
    def per_channel_weights(self) -> bool:
        """True for one weight scale per output channel."""
        return self.weights == "per-channel"

    def to_json(self) -> dict[str, object]:
        """For plan.json."""
        left = {
            "activations": self.scheme,
            "prescale": self.prescale or NONE,
            "noise_target": self.least_db,
            "float_sites": list(self.float_sites),
        }
        return flat(self) | left


def _names_of(names: Sequence[str] | str) -> tuple[str, ...]:
    """A list of names, also as one text with commas."""
    found = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip() for name in found if name.strip())
