"""`qdeploy build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.calibrate.options import BUILDER, HOW, OTHERS, PEG, ROUNDED
from qdeploy.cli import built, options, sections
from qdeploy.cli import output as talk
from qdeploy.deploy.options import DEVICE, ENGINE, GRAPHS, RTX, TENSORRT, BuildOptions
from qdeploy.files.kept import note
from qdeploy.options import DATA, OUTPUT

# The order of the headings of `build --help`.
HEADINGS = (ENGINE, DATA, ROUNDED, HOW, PEG, OTHERS, BUILDER, DEVICE, GRAPHS, TENSORRT, RTX, OUTPUT)


@sections.command(headings=HEADINGS)
@click.argument("model_dir", type=options.PATH)
@click.argument("engine_dir", type=options.PATH)
@options.of(BuildOptions)
@options.force
@options.reporting
def build(model_dir: Path, engine_dir: Path, **settings: Any) -> None:
    """Quantize a model and build its engine.

    MODEL_DIR comes from `qdeploy export`; ENGINE_DIR is written and stands alone.
    Calibrates first when no statistics of these rows exist.
    """
    with talk.progress() as progress:
        result = api.build(model_dir, engine_dir, progress=progress, **settings)
    note("output", f"{engine_dir} was written")
    talk.report(result, lambda engine: built.show(engine, engine_dir, model_dir))
