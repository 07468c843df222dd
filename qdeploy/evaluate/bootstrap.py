"""A metric with its interval, and what is lost against a baseline: percentiles of a bootstrap."""

from __future__ import annotations

import numpy as np

from qdeploy.schemas.quality import QualityFigure
from qdeploy.types import Array

_LEVEL = (2.5, 97.5)


def figure_of(
    name: str, own: Array, base: Array | None, *, lower_is_better: bool = False
) -> QualityFigure:
    """A figure of the report; a drop is paired, since both engines have the same draws.

    Args:
        own, base: float64 [1 + draws]: of the rows as they are, then of each draw; NaN where a draw
            has no value.
    """
    found: QualityFigure = {
        "name": name,
        "value": float(own[0]),
        "ci95": _interval(own[1:]),
        "baseline": None,
        "drop": None,
        "drop_ci95": None,
    }
    if base is not None:
        lost = own - base if lower_is_better else base - own
        found["baseline"], found["drop"] = float(base[0]), float(lost[0])
        found["drop_ci95"] = _interval(lost[1:])
    return found


def _interval(drawn: Array) -> list[float]:
    low, high = np.nanpercentile(drawn, _LEVEL)
    return [float(low), float(high)]
