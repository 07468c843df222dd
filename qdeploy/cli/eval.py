"""`qdeploy eval`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import evaluation, options, talk


@click.command("eval")
@click.argument("engine_dir", type=options.PATH)
@options.task
@click.option(
    "--data",
    metavar="DATA",
    help="Evaluation rows: a TSV, CSV, JSONL or Parquet file, a GLUE directory, hub:NAME,"
    " or qnli-mini. When left out: what the engine was built with, without the rows that"
    " calibrated it; else qnli-mini.",
)
@options.columns
@click.option(
    "--baseline",
    type=options.PATH,
    metavar="[fp32|fp16|ENGINE_DIR]",
    help="Compare with this engine; rounds of the two alternate. fp32 and fp16 are built from the"
    " engine's model, as ENGINE_DIR-fp32, where they are not there.",
)
@click.option(
    "--model",
    type=options.PATH,
    metavar="MODEL_DIR",
    help="The model to build --baseline fp32 from. Looked for beside the engine when left out.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@options.max_length
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Rows per run.",
)
@click.option(
    "--seq-len",
    type=click.IntRange(min=2),
    default=128,
    show_default=True,
    metavar="N",
    help="Tokens per row of the latency; what accuracy keeps is --max-length.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="Runs before the timed ones.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    metavar="N",
    help="Timed runs.",
)
@options.threads
@click.option("--no-latency", is_flag=True, help="Leave the latency out.")
@click.option("--no-accuracy", is_flag=True, help="Leave the accuracy out.")
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Gate: exit code 1 when more accuracy points are lost against --baseline.",
)
@click.option(
    "--require-int8",
    type=click.FloatRange(0.0, 1.0),
    metavar="SHARE",
    help="Gate: exit code 1 when less of the FLOPs of all constant-weight products run in INT8.",
)
@click.option(
    "--simulate",
    is_flag=True,
    help="Run the graph of a --dry-run on the CPU, for its accuracy alone.",
)
@options.html
@click.option(
    "--card", type=options.PATH, metavar="FILE", help="Write a model card (Markdown) to publish."
)
@options.seed
@options.reporting
def evaluate(engine_dir: Path, no_latency: bool, no_accuracy: bool, **settings: Any) -> None:
    """Measure accuracy, latency, size and INT8 kernels.

    ENGINE_DIR comes from `qdeploy build`. Without --baseline there is no drop and no ratio."""
    # `settings` holds the options above under the names of `api.evaluate`; a test compares the two.
    with talk.progress() as progress:
        call = partial(
            api.evaluate,
            engine_dir,
            latency=not no_latency,
            accuracy=not no_accuracy,
            progress=progress,
            **settings,
        )
        result, failure = talk.gated(call)
    talk.report(result, evaluation.table)
    if failure is not None:
        raise failure
