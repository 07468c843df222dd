"""`qdeploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.exporter.options import HEAD, TRUST, ExportOptions
from qdeploy.files.kept import note
from qdeploy.options import GENERAL, OUTPUT

# The order of the headings of `export --help`.
HEADINGS = (HEAD, TRUST, OUTPUT, GENERAL)


@sections.command(headings=HEADINGS)
@click.argument("checkpoint")
@click.argument("model_dir", type=options.PATH)
@options.of(ExportOptions)
@options.force
@options.reporting
def export(checkpoint: str, model_dir: Path, **settings: Any) -> None:
    """Export a checkpoint to verified FP32 ONNX.

    CHECKPOINT is a Hugging Face or sentence-transformers directory, a hub id, a PEFT adapter
    directory (merged into its base), or `embedded`; or an ONNX file of a fine-tuned encoder, or a
    directory with model.onnx or onnx/model.onnx in the place of weights. MODEL_DIR is written.
    """
    with talk.progress() as progress:
        result = api.export(checkpoint, model_dir, progress=progress, **settings)
    note("output", f"{model_dir} was written")
    talk.report(result, lambda model: tables.model(model, model_dir))
