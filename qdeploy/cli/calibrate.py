"""`qdeploy calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk


@sections.command()
@click.argument("model_dir", type=options.PATH)
@options.calibration_data
@options.task
@options.columns
@options.calibration_rows
@options.max_length
@options.seed
@options.ray_address
@options.reporting
def calibrate(
    model_dir: Path,
    data: str | None,
    task: str,
    columns: str | None,
    calibration_rows: int,
    max_length: int | None,
    seed: int,
    ray_address: str | None,
) -> None:
    """Observe a model on calibration rows.

    `build` does this by itself when it finds no statistics that match. Prints the path of the
    statistics.
    """
    with talk.progress() as progress:
        path = api.calibrate(
            model_dir,
            data=data,
            task=task,
            columns=columns,
            rows=calibration_rows,
            max_length=max_length,
            seed=seed,
            ray_address=ray_address,
            progress=progress,
        )
    talk.report({"statistics": str(path)}, lambda result: tables.say(result["statistics"]))
