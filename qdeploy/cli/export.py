"""`qdeploy export`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.files.kept import note


@sections.command()
@click.argument("checkpoint")
@click.argument("model_dir", type=options.PATH)
@sections.option(
    "--task",
    cls=options.NamesOption,
    names=options.named("qdeploy.head:TASKS"),
    help="What the head does. Taken from the checkpoint's configuration when left out.",
)
@sections.option(
    "--allow-pickle", is_flag=True, help="Read pickled weights, which can run code of their author."
)
@sections.option(
    "--trust-remote-code", is_flag=True, help="Run the modelling code the checkpoint brings along."
)
@options.seed
@options.force
@options.reporting
def export(
    checkpoint: str,
    model_dir: Path,
    task: str | None,
    allow_pickle: bool,
    trust_remote_code: bool,
    seed: int,
    force: bool,
) -> None:
    """Export a checkpoint to verified FP32 ONNX.

    CHECKPOINT is a Hugging Face directory, a hub id, a PEFT adapter directory (merged into its
    base), or `embedded`. MODEL_DIR is written.
    """
    with talk.progress() as progress:
        result = api.export(
            checkpoint,
            model_dir,
            force=force,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            task=task,
            seed=seed,
            progress=progress,
        )
    note("output", f"{model_dir} was written")
    talk.report(result, lambda model: tables.model(model, model_dir))
