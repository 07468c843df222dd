"""`qdeploy inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, tables, talk


@click.command()
@click.argument("path", type=options.PATH)
@options.reporting
def inspect(path: Path) -> None:
    """Show a model, an engine or any ONNX file.

    Of an engine: its plan and its certificate. Of an ONNX file that anything made: which of its
    GEMMs ONNX Runtime's CPU provider runs in INT8, and why the others do not."""
    talk.report(api.inspect(path), tables.inspection)
