"""`qdeploy sweep`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.options import OUTPUT
from qdeploy.sweep.options import SweepOptions

TRIALS = "Trials"  # heading of its options


@sections.command()
@click.argument("model")
@click.argument("sweep_dir", type=options.PATH)
@sections.option(
    "--recipe",
    group=TRIALS,
    type=options.PATH,
    required=True,
    metavar="FILE",
    help="YAML: which engines, how measured. recipes/ holds some; docs/sweeps.md says the rest.",
)
@options.of(SweepOptions)
@options.html
@sections.option(
    "--plot",
    group=OUTPUT,
    type=options.PATH,
    metavar="DIR",
    help="Write the chart as a PNG into this folder.",
)
@options.reporting
def sweep(model: str, sweep_dir: Path, **settings: Any) -> None:
    """Build and compare many engines of one model.

    MODEL is a model directory or any CHECKPOINT of `qdeploy export`. SWEEP_DIR keeps every trial:
    run the same command again and only what is missing or failed is done."""
    with talk.progress() as progress:
        call = partial(api.sweep, model, sweep_dir, progress=progress, **settings)
        result, failure = talk.gated(call)
    talk.report(result, tables.sweep)
    if failure is not None:
        raise failure
