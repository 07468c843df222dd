"""`qdeploy demo`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.figures import (
    accuracy,
    decibels,
    factor,
    megabytes,
    milliseconds,
    percent,
    points,
)
from qdeploy.schemas.demo import Demo, DemoRow

_HEADS = (
    *("engine", "accuracy\n%", "drop\npoints", "SQNR\ndB", "flipped\nrows", "time\nms"),
    *("× as\nfast", "size\nMB", "INT8\nshare"),
)


@sections.command()
@click.argument("directory", type=options.PATH, default=Path("demo"))
@options.threads
@options.seed
@options.force
@options.reporting
def demo(directory: Path, threads: int | None, seed: int, force: bool) -> None:
    """Compare the strategies on the embedded model.

    Exports the embedded checkpoint to DIRECTORY (default: demo), calibrates once, builds one engine
    per strategy, measures all on qnli-mini, and ends with a table and what it says.
    """
    with talk.progress() as progress:
        result = api.demo(directory, force=force, threads=threads, seed=seed, progress=progress)
    talk.report(result, table)


def table(result: Demo) -> None:
    """The engines, grouped by what is rounded to 8 bits, and what their figures say."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    batch, tokens = result["shape"]
    rows = result["rows"]
    # 80 columns hold it with one space between the columns
    found = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for name in _HEADS:
        found.add_column(name, justify="left" if name == "engine" else "right", no_wrap=True)
    group = rows[0]["rounded"]
    for row in rows:
        if row["rounded"] != group:
            group = row["rounded"]
            found.add_section()
            found.add_row(f"{group}:")
        found.add_row(*_cells(row, first=row is rows[0]))
    tables.say(
        f"{result['data']}, {rows[0]['n']} rows; time of a batch of {batch} × {tokens} tokens on "
        f"{result['threads']} threads"
    )
    tables.show(found)
    for paragraph in result["sentences"]:
        tables.wrapped(paragraph, hanging="")


def _cells(row: DemoRow, *, first: bool) -> list[str]:
    """One line; the first is what the others are held against."""
    sqnr = row["sqnr_db"]
    return [
        row["name"] if first else f"  {row['name']}",
        accuracy(row["accuracy"]),
        "" if first else points(row["drop"]),
        "" if sqnr is None else decibels(sqnr),
        "" if first else str(row["flipped"]),
        milliseconds(row["p50_ms"]),
        factor(row["speedup"]),
        megabytes(row["size_mb"]),
        percent(row["int8_share"]) if row["int8_planned"] else "none",
    ]
