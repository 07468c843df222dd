"""`qdeploy demo`."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, tables, talk


@click.command()
@click.argument("directory", type=options.PATH, default=Path("demo"))
@options.threads
@options.seed
@options.force
@options.reporting
def demo(directory: Path, threads: int, seed: int, force: bool) -> None:
    """Compare the strategies on the embedded model.

    Exports the embedded checkpoint to DIRECTORY (default: demo), calibrates once, builds one engine
    per strategy, evaluates each on qnli-mini, and ends with a table and what it says.
    """
    with talk.progress() as progress:
        result = api.demo(directory, force=force, threads=threads, seed=seed, progress=progress)
    talk.report(result, tables.demo)
