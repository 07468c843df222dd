"""The way into this room: what it needs is looked for before torch is imported."""

from __future__ import annotations

from pathlib import Path

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.source import hub_file_of, onnx_file_of
from qdeploy.exporter.options import ExportOptions
from qdeploy.files.output import check_apart, check_output
from qdeploy.machine.remedies import require
from qdeploy.models import embedded
from qdeploy.options import given_or
from qdeploy.schemas.manifest import ModelManifest
from qdeploy.types import PathLike, Progress


def export_model(
    checkpoint: PathLike,
    model_dir: PathLike,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: object,
) -> ModelManifest:
    """Export a checkpoint, or an ONNX file, for which torch is not needed.

    See `qdeploy.exporter.export.export_checkpoint` and
    `qdeploy.exporter.from_onnx.export.export_onnx`.

    Raises:
        PackageError: torch or transformers is not installed, with the command that installs them.
        CheckpointError: a tokenizer for a checkpoint, which has its own.
    """
    asked = given_or(ExportOptions, options, fields)
    file = None
    if str(checkpoint) != embedded.NAME:
        file = onnx_file_of(checkpoint)
        if file is None:
            file = hub_file_of(str(checkpoint), allow_pickle=asked.allow_pickle)
    if file is not None:
        require("onnxscript", "transformers", "onnxruntime")
        check_output(Path(model_dir), "model", force=force)
        from qdeploy.exporter.from_onnx.export import export_onnx

        report = progress or (lambda stage, done, total: None)
        return export_onnx(
            str(checkpoint), file, Path(model_dir), asked, force=force, progress=report
        )
    if asked.tokenizer is not None:
        raise CheckpointError(
            f"--tokenizer is for ONNX files, and {checkpoint} is none: a checkpoint has its "
            "tokenizer in its directory. Leave it out, or save the tokenizer there."
        )
    require("torch", "transformers")
    # before the seconds that PyTorch takes
    named = str(checkpoint) == embedded.NAME
    check_apart(Path(model_dir), [] if named else [Path(checkpoint)])
    check_output(Path(model_dir), "model", force=force)
    Path.cwd()  # where it was removed, torch's import would end the process without a word of ours
    if progress is not None:
        progress("load PyTorch", 0, 1)  # seconds, and no word of it
    from qdeploy.exporter.export import export_checkpoint

    return export_checkpoint(checkpoint, model_dir, asked, force=force, progress=progress)
