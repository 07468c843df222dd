"""`qdeploy analyze`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.cli import analysis_table, options, sections
from qdeploy.cli import output as talk
from qdeploy.options import OUTPUT


@sections.command()
@click.argument("model_dir", type=options.PATH)
@options.of(AnalyzeOptions)
@options.html
@sections.option(
    "--plot",
    group=OUTPUT,
    type=options.PATH,
    metavar="DIR",
    help="Write the pictures as PNGs into this folder.",
)
@options.reporting
def analyze(model_dir: Path, **settings: Any) -> None:
    """Show where accuracy is lost in INT8, and what to build.

    From the statistics of `qdeploy calibrate`, which is run where there are none that match. What
    a site costs is measured: it alone is rounded, and then all but it. The sites of which the
    statistics expect most noise come first. The last line is the build to run next."""
    with talk.progress() as progress:
        call = partial(api.analyze, model_dir, progress=progress, **settings)
        result, failure = talk.gated(call)
    talk.report(result, analysis_table.analysis)
    if failure is not None:
        raise failure
