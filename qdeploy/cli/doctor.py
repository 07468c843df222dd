"""`qdeploy doctor`."""

from __future__ import annotations

import click

from qdeploy import api
from qdeploy.cli import options, tables, talk


@click.command()
@options.reporting
def doctor() -> None:
    """Say which targets work on this machine.

    For each that does not: the reason and the remedy."""
    talk.report(api.doctor(), tables.health)
