"""What a command says: progress and results, as the options --json, --quiet and --verbose ask."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from qdeploy.cli import streams
from qdeploy.cli.progress import drawing
from qdeploy.errors import GateError, OutputError, QDeployError
from qdeploy.files import kept
from qdeploy.files.whole import check_file, check_reports, write_file
from qdeploy.text import json_text

T = TypeVar("T")
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
    check_file("--json", Path(value))


def result_goes_to_stdout() -> bool:
    """Whether --json - was given."""
    return click.get_current_context().meta.get(_JSON) == "-"


def guard_inputs(params: Mapping[str, object]) -> None:
    """Refuse --json, --html, --card and --out that would replace what the command was given.

    Args:
        params: of the command.

    Raises:
        OutputError: with what would be lost.
    """
    places = {f"--{name}": params.get(name) for name in ("html", "card", "out")}
    reports = {flag: place for flag, place in places.items() if isinstance(place, Path)}
    target = click.get_current_context().meta.get(_JSON)
    if target is not None and target != "-":
        reports["--json"] = Path(target)
    given = [v for name, v in params.items() if f"--{name}" not in reports and name != "plot"]
    check_reports(reports, given)


def is_verbose(ctx: click.Context) -> bool:
    """Whether --verbose was given; `meta` is shared by a context and its children."""
    return bool(ctx.meta.get(_VERBOSE, False))


class _Notes(logging.Handler):
    """Prints what the rooms note, on standard error and once; nothing with --quiet."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__(logging.INFO)
        self._ctx, self._said = ctx, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a note."""
        text = record.getMessage()
        if text not in self._said and not self._ctx.meta.get(_QUIET, False):
            self._said.add(text)
            streams.say(text)


@contextmanager
def noting(ctx: click.Context) -> Iterator[None]:
    """Print what the rooms note while a command runs: which columns are read, for one."""
    logger, handler = logging.getLogger("qdeploy"), _Notes(ctx)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def progress() -> Iterator[Callback | None]:
    """A progress callback that draws on standard error; None with --quiet."""
    if click.get_current_context().meta.get(_QUIET, False):
        yield None
        return
    with drawing() as drawn:
        yield drawn.update


def gated(call: Callable[[], Any]) -> tuple[Any, QDeployError | None]:
    """The result of a call, and what failed behind it: a gate, or a file of the report."""
    try:
        return call(), None
    except (GateError, OutputError) as error:
        if not error.report:
            raise
        return error.report, error


def report(result: T, table: Callable[[T], None]) -> None:
    """Give the result of a command: to --json, and for the eye unless --json is `-`.

    Args:
        result: what the function of `qdeploy.api` returned.
        table: prints `result` on standard output.

    Raises:
        OutputError: the file of --json, or standard output, cannot be written. The table is printed
            all the same, and the text says what stands on disk.
    """
    meta = click.get_current_context().meta
    target = meta.get(_JSON)
    text = json_text(json.dumps(result, indent=2, ensure_ascii=False, default=str))
    failure = None
    if target is not None and target != "-":
        try:
            write_file("--json", Path(target), (text + "\n").encode())
        except OutputError as error:
            failure = OutputError(f"{error}{_kept()}")
    try:
        if target == "-":
            click.echo(text)
        elif not meta.get(_QUIET, False):
            table(result)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{streams.unwritable(error)}{_kept()}") from error
    if failure is not None:
        raise failure


def _kept() -> str:
    """What stands on disk all the same, as a sentence of its own."""
    notes = "; ".join(kept.notes())
    return f" All the same: {notes}." if notes else ""


def interrupt_text(word: str) -> str:
    """What is true after Ctrl-C: directories appear whole or not at all.

    Args:
        word: how the command ended ("Interrupted").
    """
    return f"{word}: {'; '.join(kept.notes()) or 'nothing was written'}."
