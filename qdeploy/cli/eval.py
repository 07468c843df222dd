"""`qdeploy eval`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import evaluation, options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.cli.values import COUNT, POINTS, Number

LATENCY = "Latency"  # heading of its options


@sections.command("eval")
@click.argument("engine_dir", type=options.PATH)
@options.task
@sections.option(
    "--data",
    group=sections.DATA,
    metavar="DATA",
    help="Evaluation rows: a TSV, CSV, JSONL or Parquet file, a GLUE directory, hub:NAME,"
    " or qnli-mini. When left out: what the engine was built with, without the rows that"
    " calibrated it; else qnli-mini.",
)
@options.columns
@sections.option(
    "--baseline",
    group=sections.MEASURED,
    type=options.PATH,
    metavar="[fp32|fp16|ENGINE_DIR]",
    help="Compare with this engine; rounds of the two alternate. fp32 and fp16 are built from the"
    " engine's model, as ENGINE_DIR-fp32, where they are not there.",
)
@sections.option(
    "--model",
    group=sections.MEASURED,
    type=options.PATH,
    metavar="MODEL_DIR",
    help="The model to build --baseline fp32 from. Looked for beside the engine when left out.",
)
@sections.option(
    "--limit",
    group=sections.DATA,
    type=COUNT,
    metavar="N",
    help="Only the first N rows.",
)
@options.max_length
@options.batch_size(sections.MEASURED)
@sections.option(
    "--seq-len",
    group=LATENCY,
    type=Number(int, least=2),
    metavar="N",
    help="Tokens per row of the latency; 128, or what the model takes, when left out. What accuracy"
    " keeps is --max-length.",
)
@sections.option(
    "--warmup",
    group=LATENCY,
    type=Number(int, least=0),
    metavar="N",
    help="Runs before the timed ones, exactly so many. At most 100, as --seconds allow, when left"
    " out.",
)
@sections.option(
    "--iterations",
    group=LATENCY,
    type=COUNT,
    metavar="N",
    help="Timed runs of each engine, exactly so many. At most 500, as --seconds allow, and at least"
    " 6 when left out.",
)
@sections.option(
    "--seconds",
    group=LATENCY,
    type=Number(float, least=0),
    metavar="S",
    help="Time for all runs of the latency, of the engine and its baseline. 30 when left out.",
)
@options.threads
@sections.option(
    "--no-latency", group=sections.MEASURED, is_flag=True, help="Leave the latency out."
)
@sections.option(
    "--no-own-lengths",
    group=sections.MEASURED,
    is_flag=True,
    help="Time the fixed shape alone, not batches of the data's own lengths.",
)
@sections.option(
    "--no-accuracy", group=sections.MEASURED, is_flag=True, help="Leave the accuracy out."
)
@sections.option(
    "--max-drop",
    group=sections.GATES,
    type=POINTS,
    metavar="POINTS",
    help="Most accuracy points that may be lost against --baseline.",
)
@options.require_int8
@sections.option(
    "--simulate",
    group=sections.MEASURED,
    is_flag=True,
    help="Run the graph of a --dry-run on the CPU, for its accuracy alone.",
)
@options.html
@sections.option(
    "--card",
    group=sections.OUTPUT,
    type=options.PATH,
    metavar="FILE",
    help="Write a model card (Markdown) to publish.",
)
@options.seed
@options.reporting
def evaluate(
    engine_dir: Path, no_latency: bool, no_own_lengths: bool, no_accuracy: bool, **settings: Any
) -> None:
    """Measure accuracy, latency, size and INT8 kernels.

    ENGINE_DIR comes from `qdeploy build`. Without --baseline there is no drop and no ratio."""
    # `settings` holds the options above under the names of `api.evaluate`; a test compares the two.
    with talk.progress() as progress:
        call = partial(
            api.evaluate,
            engine_dir,
            latency=not no_latency,
            own_lengths=not no_own_lengths,
            accuracy=not no_accuracy,
            progress=progress,
            **settings,
        )
        result, failure = talk.gated(call)
    talk.report(result, lambda report: _show(report, engine_dir, settings["data"]))
    if failure is not None:
        raise failure


def _show(report: Mapping[str, Any], engine_dir: Path, data: str | None) -> None:
    """The table; where an accuracy was measured also how to use the engine on other rows.

    Args:
        report: of `api.evaluate`.
        engine_dir: the engine.
        data: as typed: its texts may be answered too.
    """
    evaluation.table(report)
    if report.get("simulated") or not report.get("metrics"):
        return
    own = data is not None and Path(data).is_file()
    columns = (report.get("data") or {}).get("columns") or {}
    texts = [columns[key] for key in ("first", "second") if columns.get(key)]
    tables.following(
        *("predict", engine_dir, Path(str(data)) if own else "FILE"),
        options={"columns": ",".join(texts)} if own and texts else {},
        note="answers any rows, of CSV, TSV, JSONL, text or Parquet; README.md in the engine says "
        "how it runs without qdeploy",
    )
