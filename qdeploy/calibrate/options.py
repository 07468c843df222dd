"""The options of a plan, checked once, with the field's defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qdeploy.calibrate.affine import ASYMMETRIC, SCHEMES
from qdeploy.calibrate.grouping import GROUPINGS, OPTIMAL
from qdeploy.errors import PlanError, choose

GEMM_SCOPE, ALL_SCOPE = "gemm", "all"
SCOPES = (GEMM_SCOPE, ALL_SCOPE)
WEIGHTS = ("per-channel", "per-tensor")
MIXED_SETS = ("ffn", "auto")
AUTO, NONE = "auto", "none"
FOLDED, EVERYWHERE = "folded", "everywhere"
PRESCALES = (NONE, FOLDED, EVERYWHERE)
# A group of a GEMM's input is a product of its own, so that graph and time grow with K. The paper's
# accuracy is back at K = 4 (docs/reproduction.md).
MOST_GROUPS = 32
WHY_SO_MANY = "Each group is a product of its own: more of them cost time and mend nothing."


@dataclass(frozen=True)
class PlanOptions:
    """What a user may choose about a plan.

    Attributes:
        scope: "gemm" (inputs and weights of GEMMs, embedding tables) or "all" (every activation).
        activations: "asymmetric" (uint8 with zero point) or "symmetric" (int8).
        weights: "per-channel" or "per-tensor" scales.
        percentile: of the `percentile` strategy, percent kept on each side.
        mixed: "ffn" (FFN input, FFN output, residual sum in float) or "auto" (the noisiest sites).
        alpha: of `smoothquant`, 0 to 1, or "auto" for the best of a grid per site.
        grouping: "contiguous", "sorted" or "optimal".
        groups: K, or "auto" for the smallest that reaches the noise target, site by site.
        outlier_channels: N per GEMM input kept in float, "auto", or "none"; the default None means
            "auto" with automatic groups and "none" where K is given, so that groupings compare.
        prescale: GEMM inputs that `peg` scales by channel before they are rounded: "none",
            "folded" (where the factors become part of weights before: the value's, or those of one
            more LayerNormalization) or "everywhere"; where it helps. Scope gemm only.
        noise_target: decibels below a GEMM's output where the rounding noise of its input is quiet
            enough for `peg`.
        float_sites: names of sites that stay in float whatever the strategy says, and the GEMMs
            that read them with them.
        int8_residuals: targets that add in INT8 read the skip branch of a residual sum rounded
            too, on the scale of the GEMMs that read the same tensor; where it has one scale.
    """

    scope: str = GEMM_SCOPE
    activations: str = ASYMMETRIC
    weights: str = "per-channel"
    percentile: float = 99.99
    mixed: str = "ffn"
    alpha: float | str = AUTO
    grouping: str = OPTIMAL
    groups: int | str = AUTO
    outlier_channels: int | str | None = None
    prescale: str = NONE
    noise_target: float = 30.0
    float_sites: tuple[str, ...] = ()
    int8_residuals: bool = False

    def __post_init__(self) -> None:
        choose("scope", self.scope, SCOPES, PlanError)
        choose("activation scheme", self.activations, SCHEMES, PlanError)
        choose("weight granularity", self.weights, WEIGHTS, PlanError)
        choose("grouping", self.grouping, GROUPINGS, PlanError)
        choose("mixed set", self.mixed, MIXED_SETS, PlanError)
        choose("prescale", self.prescale, PRESCALES, PlanError)
        if not 50 < self.percentile <= 100:
            raise PlanError(
                f"--percentile is {self.percentile}; give a percentage above 50, such as 99.99."
            )
        if self.alpha != AUTO and not _is_share(self.alpha):
            raise PlanError(f"--alpha is {self.alpha}; give a number from 0 to 1, or 'auto'.")
        if not 0 < self.noise_target <= 100:
            raise PlanError(
                f"--noise-target is {self.noise_target}; give decibels above 0, such as 30."
            )
        if isinstance(self.groups, int) and self.groups > MOST_GROUPS:
            raise PlanError(
                f"--groups is {self.groups}; give at most {MOST_GROUPS}, or 'auto'. {WHY_SO_MANY}"
            )
        _check_count("--groups", self.groups, (AUTO,), least=1)
        if self.outlier_channels is not None:
            _check_count("--outlier-channels", self.outlier_channels, (AUTO, NONE), least=0)

    @property
    def per_channel_weights(self) -> bool:
        """True for one weight scale per output channel."""
        return self.weights == "per-channel"

    def to_json(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self) | {"float_sites": list(self.float_sites)}


def _is_share(value: float | str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= float(value) <= 1


def _check_count(flag: str, value: int | str, words: tuple[str, ...], *, least: int) -> None:
    if isinstance(value, bool) or not (
        value in words or (isinstance(value, int) and value >= least)
    ):
        choices = " or ".join(f"'{word}'" for word in words)
        raise PlanError(f"{flag} is {value!r}; give a whole number from {least} up, or {choices}.")
