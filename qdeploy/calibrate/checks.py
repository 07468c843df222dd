"""Sanity alarms: what a plan must not be without somebody noticing.

Each of these has spoiled a published result. A range that lost one sign made every percentile of
arXiv 2603.04308 predict one class, with identical losses for four different thresholds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from qdeploy.calibrate.affine import E4M3_LARGEST, LEVELS, Affine
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.calibrate.ranges import clipped_share
from qdeploy.calibrate.schemes import ASYMMETRIC, E4M3
from qdeploy.errors import PlanError, QDeployWarning
from qdeploy.names import short_name

# A side counts as real when it reaches this share of the other: GELU's negative side reaches about
# a hundredth, and clipping that away is a choice, not a bug.
_REAL_SIDE = 0.05
# Percentile 99.0 clips 2 % on purpose; above this the range is hardly one of the tensor any more.
CLIPPED_LIMIT = 0.05


def affine_range(affine: Affine, scheme: str = ASYMMETRIC) -> tuple[float, float]:
    """The values that the outermost codes stand for."""
    if scheme == E4M3:
        return -E4M3_LARGEST * affine.scale, E4M3_LARGEST * affine.scale
    low = -affine.zero_point * affine.scale
    return low, low + LEVELS * affine.scale


def check_signs(
    site: str, statistics: SiteStatistics, affine: Affine, scheme: str = ASYMMETRIC
) -> None:
    """Stop a range that lost the negative or the positive side of a two-sided tensor.

    Raises:
        PlanError: naming the site and both ranges.
    """
    low, high = float(statistics.minimum.min()), float(statistics.maximum.max())
    kept_low, kept_high = affine_range(affine, scheme)
    lost_negative = low < -_REAL_SIDE * high and kept_low > -1e-3 * -low
    lost_positive = high > _REAL_SIDE * -low and kept_high < 1e-3 * high
    if lost_negative or lost_positive:
        side = "negative" if lost_negative else "positive"
        raise PlanError(
            f"{site}: the range [{kept_low:.4g}, {kept_high:.4g}] lost the {side} side of values "
            f"in [{low:.4g}, {high:.4g}]. The rule must be two-sided; choose another strategy."
        )


def check_plan(plan: Plan, statistics: Mapping[str, SiteStatistics]) -> None:
    """Run the per-tensor alarms over a plan: lost signs stop it, wide clipping warns.

    Raises:
        PlanError: a range lost a sign.
    """
    clipped: list[tuple[float, str]] = []
    for tensor, site in plan.sites.items():
        if not isinstance(site.treatment, PerTensor) or site.treatment.pre_quant_scale:
            continue
        affine = site.treatment.affine
        check_signs(site.name, statistics[tensor], affine, plan.activations)
        low, high = affine_range(affine, plan.activations)
        margin = affine.scale  # within a step of the edge nothing is lost
        share = clipped_share(statistics[tensor], low - margin, high + margin)
        if share > CLIPPED_LIMIT:
            clipped.append((share, site.name))
    if clipped:
        share, worst = max(clipped)
        warnings.warn(
            f"{len(clipped)} sites clip more than {100 * CLIPPED_LIMIT:.0f} % of their values "
            f"(most: {short_name(worst)}, {100 * share:.1f} %). Raise --percentile or use another "
            "strategy.",
            QDeployWarning,
            stacklevel=2,
        )


def check_distinct(plan: Plan, other: Plan) -> None:
    """Warn when two different settings gave the same ranges at every site.

    That is how a setting that never arrives shows itself.
    """
    if plan.options == other.options and plan.strategy == other.strategy:
        return
    same = [s.treatment for s in plan.sites.values()] == [s.treatment for s in other.sites.values()]
    if same and plan.sites:
        warnings.warn(
            f"{plan.strategy} {_difference(plan, other)} gives exactly the same ranges as "
            f"{other.strategy}: the setting has no effect on this model.",
            QDeployWarning,
            stacklevel=2,
        )


def _difference(plan: Plan, other: Plan) -> str:
    changed = {k: v for k, v in plan.options.items() if other.options.get(k) != v}
    return ", ".join(f"{key}={value}" for key, value in changed.items())
