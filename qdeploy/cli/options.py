"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from qdeploy.cli import output as talk
from qdeploy.cli.sections import DATA, GATES, OUTPUT, Option, option
from qdeploy.cli.values import COUNT, SEED, SHARE
from qdeploy.errors import PlanError, choose

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
_LONGEST_CHOICE = 40  # characters of `[a|b|c]`, so that no line of help is wider than 80


class NamesOption(Option):
    """An option whose help lists names that another room keeps.

    The list is read when help is shown, and when a name is typed: a wrong one is refused before any
    work, with the nearest.
    """

    def __init__(self, *args: Any, names: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names = names  # "module:CONSTANT"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Put the names where the value stands; in front of the help text where they are many."""
        names = self._load()
        self.metavar = "[" + "|".join(names) + "]"
        if len(self.metavar) <= _LONGEST_CHOICE:
            return super().get_help_record(ctx)
        self.metavar = "NAME"
        record = super().get_help_record(ctx)
        return record and (record[0], f"{', '.join(names)}. {record[1]}")

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The name.

        Raises:
            PlanError: it is none of them.
        """
        found = super().type_cast_value(ctx, value)
        if found is None or found == self.default:
            return found
        return choose(str(self.name).replace("_", " "), str(found), self._load(), PlanError)

    def _load(self) -> tuple[str, ...]:
        module, constant = self.names.split(":")
        return tuple(getattr(importlib.import_module(module), constant))


def reporting(function: F) -> F:
    """--json, --quiet and --verbose, for every command; no report may replace what it was given."""

    @functools.wraps(function)
    def checked(*args: Any, **params: Any) -> Any:
        talk.guard_inputs(params)
        return function(*args, **params)

    wrapped = cast("F", checked)
    for shared in (
        option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=talk.set_verbose,
            is_eager=True,
            help="Whole tables, warnings of libraries, tracebacks of unexpected errors.",
        ),
        option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=talk.set_quiet,
            is_eager=True,
            help="No progress, no table, no warnings; errors only.",
        ),
        option(
            "--json",
            group=OUTPUT,
            metavar="FILE",
            expose_value=False,
            callback=talk.set_json,
            help="Write the result as JSON; '-' is standard output, with nothing else.",
        ),
    ):
        wrapped = shared(wrapped)
    return wrapped


_option = partial(option, show_default=True)

force = option(
    "--force",
    group=OUTPUT,
    is_flag=True,
    help="Replace the output, if it is a directory that qdeploy wrote.",
)
seed = _option("--seed", type=SEED, default=0, metavar="N", help="Seed of everything random.")
threads = option(
    "--threads",
    type=COUNT,
    metavar="N",
    help="Threads that an engine may use. The cores that the process may use when left out.",
)
task = option(
    "--task",
    group=DATA,
    cls=NamesOption,
    names="qdeploy.data.infer:TASK_NAMES",
    default="auto",
    show_default=True,
    help="What the rows of --data ask for, and so which columns hold their text. auto takes it from"
    " the names of the columns, or as an earlier command was told.",
)
columns = option(
    "--columns",
    group=DATA,
    metavar="NAME=COLUMN,...",
    help="Columns of --data under other names: text=comment,label=rating, or for pairs"
    " text=question,text_pair=answer,label=gold.",
)
calibration_data = option(
    "--data",
    group=DATA,
    metavar="DATA",
    help="Calibration rows: a TSV, CSV, JSONL or Parquet file, a GLUE directory, hub:NAME, or"
    " qnli-mini. When left out: what the model was calibrated on last, else qnli-mini.",
)
calibration_rows = _option(
    "--calibration-rows",
    group=DATA,
    type=COUNT,
    default=128,
    metavar="N",
    help="Rows to calibrate on.",
)
max_length = option(
    "--max-length",
    group=DATA,
    type=COUNT,
    metavar="N",
    help="Tokens kept of a row. The model's own limit, at most 512, when left out.",
)
statistics = option(
    "--statistics",
    group=DATA,
    type=PATH,
    metavar="FILE",
    help="Use these statistics of `qdeploy calibrate` instead of calibrating.",
)


ROUNDED, HOW = "What is rounded", "How it is rounded"


def scope(default: str) -> Callable[[F], F]:
    """--scope, whose default depends on what a command is for."""
    return option(
        "--scope",
        group=ROUNDED,
        cls=NamesOption,
        names="qdeploy.calibrate.options:SCOPES",
        default=default,
        show_default=True,
        help="Inputs and weights of GEMMs and embedding tables, or every activation.",
    )


activations = option(
    "--activations",
    group=HOW,
    cls=NamesOption,
    names="qdeploy.calibrate.affine:SCHEMES",
    help="uint8 with a zero point, or int8 without one. The target's own when left out.",
)
html = option(
    "--html",
    group=OUTPUT,
    type=PATH,
    metavar="FILE",
    help="Write the report as one self-contained HTML file.",
)


def batch_size(group: str) -> Callable[[F], F]:
    """--batch-size, under a heading of the command."""
    return _option(
        "--batch-size",
        group=group,
        type=COUNT,
        default=8,
        metavar="N",
        help="Rows per run.",
    )


require_int8 = option(
    "--require-int8",
    group=GATES,
    type=SHARE,
    metavar="SHARE",
    help="Least share of the FLOPs of all constant-weight products that runs in INT8.",
)
ray_address = option(
    "--ray-address",
    metavar="[auto|ADDRESS]",
    help="Share the work out over this Ray cluster; auto is the one of this machine.",
)
