"""`qdeploy doctor`."""

from __future__ import annotations

from qdeploy import api
from qdeploy.cli import health, options, sections
from qdeploy.cli import output as talk


@sections.command()
@options.reporting
def doctor() -> None:
    """Say which targets work on this machine.

    For each that does not: the reason and the remedy."""
    talk.report(api.doctor(), health.show)
