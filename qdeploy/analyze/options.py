"""The options of an analysis."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy import common_options as common
from qdeploy.calibrate.options import HOW, CalibrationOptions, scope_option
from qdeploy.calibrate.schemes import ASYMMETRIC, SCHEMES
from qdeploy.options import MEASURED, Options, nested, option

SECONDS = 120.0


@dataclass(frozen=True)
class AnalyzeOptions(Options):
    """Which sites are looked at, and what is measured of them."""

    calibration: CalibrationOptions = nested(CalibrationOptions)
    scope: str = scope_option()
    activations: str = option(
        ASYMMETRIC,
        "uint8 with a zero point, or int8 without one.",
        group=HOW,
        choices=SCHEMES,
    )
    cost_rows: int = option(
        32,
        "Rows on which each site's cost is measured; 0 measures none.",
        group=MEASURED,
        number=int,
        least=0,
        metavar="N",
    )
    seconds: float = option(
        SECONDS,
        "Begin no further site after so long; what was left out is named.",
        group=MEASURED,
        number=float,
        above=0,
        metavar="S",
    )
    threads: int | None = common.threads()
