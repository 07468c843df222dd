"""`qdeploy inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, tables, talk


@click.command()
@click.argument("path", type=options.PATH)
@click.option(
    "--target",
    metavar="[ort-cpu|ort-cuda|ort-tensorrt|tensorrt]",
    help="Of an ONNX file: hold it against this target. ort-cpu when left out.",
)
@options.reporting
def inspect(path: Path, target: str | None) -> None:
    """Show a model, an engine or any ONNX file.

    Of an engine: its plan and its certificate. Of an ONNX file that anything made: which of its
    GEMMs ONNX Runtime's CPU provider runs in INT8, and why the others do not; with --target and a
    GPU target, what in it breaks that target's rules for quantized graphs, and what to do."""
    talk.report(api.inspect(path, target=target), tables.inspection)
