"""`qdeploy analyze`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import analysis_table, options, sections
from qdeploy.cli import output as talk
from qdeploy.cli.values import Number


@sections.command()
@click.argument("model_dir", type=options.PATH)
@options.calibration_data
@options.task
@options.columns
@options.calibration_rows
@options.max_length
@options.statistics
@options.scope("gemm")
@sections.option(
    "--activations",
    group=options.HOW,
    cls=options.NamesOption,
    names="qdeploy.calibrate.affine:SCHEMES",
    default="asymmetric",
    show_default=True,
    help="uint8 with a zero point, or int8 without one.",
)
@sections.option(
    "--cost-rows",
    group=sections.MEASURED,
    type=Number(int, least=0),
    default=32,
    show_default=True,
    metavar="N",
    help="Rows on which each site's cost is measured; 0 measures none.",
)
@sections.option(
    "--seconds",
    group=sections.MEASURED,
    type=Number(float, above=0),
    default=120.0,
    show_default=True,
    metavar="S",
    help="Begin no further site after so long; what was left out is named.",
)
@options.html
@sections.option(
    "--plot",
    group=sections.OUTPUT,
    type=options.PATH,
    metavar="DIR",
    help="Write the pictures as PNGs into this folder.",
)
@options.threads
@options.seed
@options.reporting
def analyze(model_dir: Path, **settings: Any) -> None:
    """Show where accuracy is lost in INT8, and what to build.

    From the statistics of `qdeploy calibrate`, which is run where there are none that match. What
    a site costs is measured: it alone is rounded, and then all but it. The sites of which the
    statistics expect most noise come first. The last line is the build to run next."""
    # `settings` holds the options above under the names of `api.analyze`; a test compares the two.
    with talk.progress() as progress:
        call = partial(api.analyze, model_dir, progress=progress, **settings)
        result, failure = talk.gated(call)
    talk.report(result, analysis_table.analysis)
    if failure is not None:
        raise failure
