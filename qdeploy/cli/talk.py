"""What a command says: progress and results, as the options --json, --quiet and --verbose ask."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from qdeploy.cli.progress import PlainProgress, RichProgress
from qdeploy.errors import GateError, OutputError
from qdeploy.text import json_text

Callback = Callable[[str, int, int], None]
_QUIET, _VERBOSE, _JSON = "qdeploy.quiet", "qdeploy.verbose", "qdeploy.json"


def set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Callback of --quiet."""
    ctx.meta[_QUIET] = value
    if value:
        warnings.simplefilter("ignore")


def set_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Callback of --verbose."""
    ctx.meta[_VERBOSE] = value
    if value:
        warnings.simplefilter("default")


def set_json(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """Callback of --json: refuse a file that cannot be written before the work, not after it."""
    ctx.meta[_JSON] = value
    if value is None or value == "-" or ctx.resilient_parsing:
        return
    folder = Path(value).parent
    if not folder.is_dir():
        raise OutputError(f"--json {value}: the directory {folder} does not exist. Make it first.")
    if Path(value).is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"--json {value} cannot be written. Name a file in another place.")


def is_verbose(ctx: click.Context) -> bool:
    """Whether --verbose was given; `meta` is shared by a context and its children."""
    return bool(ctx.meta.get(_VERBOSE, False))


@contextmanager
def progress() -> Iterator[Callback | None]:
    """A progress callback that draws on standard error; None with --quiet."""
    if click.get_current_context().meta.get(_QUIET, False):
        yield None
        return
    terminal = sys.stderr.isatty()
    drawing: RichProgress | PlainProgress = RichProgress() if terminal else PlainProgress()
    with drawing:
        yield drawing.update


def gated(call: Callable[[], Any]) -> tuple[Any, GateError | None]:
    """The result of a call, and the gate that it did not meet: a failed gate is a result too."""
    try:
        return call(), None
    except GateError as error:
        if not error.report:
            raise
        return error.report, error


def report(result: Any, table: Callable[[Any], None]) -> None:
    """Give the result of a command: to --json, and for the eye unless --json is `-`.

    Args:
        result: what the function of `qdeploy.api` returned.
        table: prints `result` on standard output.

    Raises:
        OutputError: the file of --json cannot be written.
    """
    meta = click.get_current_context().meta
    target = meta.get(_JSON)
    text = json_text(json.dumps(result, indent=2, ensure_ascii=False, default=str))
    if target == "-":
        click.echo(text)
        return
    if target is not None:
        try:
            Path(target).write_text(text + "\n", "utf-8")
        except OSError as error:
            raise OutputError(f"--json {target} was not written: {error.strerror}.") from error
    if not meta.get(_QUIET, False):
        table(result)


def interrupt_text(args: Sequence[str]) -> str:
    """What is true after Ctrl-C: directories appear whole or not at all."""
    if args and args[0] == "demo":
        return "Interrupted: engines that were finished stay, nothing half-written is left."
    return "Interrupted: nothing was written."
