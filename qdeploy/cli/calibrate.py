"""`qdeploy calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.options import DATA


@sections.command()
@click.argument("model_dir", type=options.PATH)
@options.of(CalibrationOptions, omit=("statistics",))
@sections.option(
    "--second-moments",
    group=DATA,
    is_flag=True,
    help="Gather second moments of GEMM inputs too, for build --weight-rounding compensated: a"
    " matrix of channels by channels for each.",
)
@sections.option(
    "--sensitivity",
    group=DATA,
    is_flag=True,
    help="Measure how much of each GEMM input's noise comes out of the model too, for build"
    " --sensitivity: one run of some dozens of rows for each.",
)
@options.ray_address
@options.reporting
def calibrate(model_dir: Path, **settings: Any) -> None:
    """Observe a model on calibration rows.

    `build` does this by itself when it finds no statistics that match. Prints the path of the
    statistics.
    """
    with talk.progress() as progress:
        path = api.calibrate(model_dir, progress=progress, **settings)
    talk.report({"statistics": str(path)}, lambda result: tables.say(result["statistics"]))
