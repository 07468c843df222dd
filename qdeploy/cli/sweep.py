"""`qdeploy sweep`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.cli.values import POINTS

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
@options.calibration_data
@sections.option(
    "--eval-data",
    group=sections.DATA,
    metavar="DATA",
    help="Evaluation rows, where --data does not hold them too (a directory or a hub data set do).",
)
@options.max_length
@sections.option(
    "--max-drop",
    group=sections.GATES,
    type=POINTS,
    metavar="POINTS",
    help="Name the fastest engine that loses at most this; exit code 1 where none does.",
)
@options.ray_address
@options.html
@sections.option(
    "--plot",
    group=sections.OUTPUT,
    type=options.PATH,
    metavar="DIR",
    help="Write the chart as a PNG into this folder.",
)
@options.reporting
def sweep(model: str, sweep_dir: Path, **settings: Any) -> None:
    """Build and compare many engines of one model.

    MODEL is a model directory or any CHECKPOINT of `qdeploy export`. SWEEP_DIR keeps every trial:
    run the same command again and only what is missing or failed is done."""
    # `settings` holds the options above under the names of `api.sweep`; a test compares the two.
    with talk.progress() as progress:
        call = partial(api.sweep, model, sweep_dir, progress=progress, **settings)
        result, failure = talk.gated(call)
    talk.report(result, tables.sweep)
    if failure is not None:
        raise failure
