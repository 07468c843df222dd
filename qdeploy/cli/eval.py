"""`qdeploy eval`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import evaluation, options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.evaluate.options import EvalOptions
from qdeploy.options import OUTPUT
from qdeploy.schemas.evaluation import Evaluation


@sections.command("eval")
@click.argument("engine_dir", type=options.PATH)
@options.of(EvalOptions)
@options.html
@sections.option(
    "--card",
    group=OUTPUT,
    type=options.PATH,
    metavar="FILE",
    help="Write a model card (Markdown) to publish.",
)
@options.reporting
def evaluate(engine_dir: Path, html: Path | None, card: Path | None, **settings: object) -> None:
    """Measure accuracy, latency, size and INT8 kernels.

    ENGINE_DIR comes from `qdeploy build`. Without --baseline there is no drop and no ratio."""
    with talk.progress() as progress:
        call = partial(
            api.evaluate, engine_dir, None, html=html, card=card, progress=progress, **settings
        )
        result, failure = talk.gated(call)
    talk.report(result, lambda report: _show(report, engine_dir, settings["data"]))
    if failure is not None:
        raise failure


def _show(report: Evaluation, engine_dir: Path, data: object) -> None:
    """The table; where an accuracy was measured also how to use the engine on other rows.

    Args:
        report: of `api.evaluate`.
        engine_dir: the engine.
        data: as typed: its texts may be answered too.
    """
    evaluation.table(report)
    if report["simulated"] or not report["metrics"]:
        return
    own = data is not None and Path(str(data)).is_file()
    columns = report["data"]["columns"]
    texts = [name for name in (columns["first"], columns.get("second")) if name]
    tables.following(
        *("predict", engine_dir, Path(str(data)) if own else "FILE"),
        options={"columns": ",".join(texts)} if own and texts else {},
        note="answers any rows, of CSV, TSV, JSONL, text or Parquet; README.md in the engine says "
        "how it runs without qdeploy",
    )
