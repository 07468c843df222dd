"""The options of a sweep; what its trials are stands in a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy import common_options as common
from qdeploy.options import DATA, Options, option
from qdeploy.types import PathLike


@dataclass(frozen=True)
class SweepOptions(Options):
    """Which rows a sweep reads, and which engine it is to name."""

    data: PathLike | None = common.calibration_data()
    eval_data: PathLike | None = option(
        None,
        "Evaluation rows, where --data does not hold them too (a directory or a hub data set do).",
        group=DATA,
        metavar="DATA",
    )
    max_length: int | None = common.max_length()
    max_drop: float | None = common.max_drop(
        "Name the fastest engine that loses at most this; exit code 1 where none does."
    )
    ray_address: str | None = common.ray_address()
