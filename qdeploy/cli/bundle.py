"""`qdeploy bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.bundles.options import BundleOptions
from qdeploy.cli import options, sections
from qdeploy.cli import output as talk
from qdeploy.files.kept import note
from qdeploy.schemas.built import Bundled


@sections.command()
@click.argument("engine_dir", type=options.PATH)
@click.argument("out", type=options.PATH)
@options.of(BundleOptions)
@options.force
@options.reporting
def bundle(engine_dir: Path, out: Path, **settings: Any) -> None:
    """Lay an engine out for what serves it.

    ENGINE_DIR comes from `qdeploy build`; OUT is written, and loads without qdeploy.
    """
    result = api.bundle(engine_dir, out, **settings)
    note("output", f"{out} was written")
    talk.report(result, _show)


def _show(found: Bundled) -> None:
    click.echo(f"{found['out']} is for {found['format']}:\n")
    click.echo("\n".join(f"    {line}".rstrip() for line in found["use"].splitlines()))
