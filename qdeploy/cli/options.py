"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from qdeploy import common_options as common
from qdeploy.cli import output as talk
from qdeploy.cli.sections import Option, option
from qdeploy.cli.values import Number
from qdeploy.errors import PlanError, choose
from qdeploy.options import OUTPUT, Options, Spec, defaults, specs
from qdeploy.options import option as spec_of
from qdeploy.types import PathLike

F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
R = TypeVar("R")

PATH = click.Path(path_type=Path)
_LONGEST_CHOICE = 40  # characters of `[a|b|c]`, so that no line of help is wider than 80


class NamesOption(Option):
    """An option whose help lists names that another room keeps.

    The list is read when help is shown, and when a name is typed: a wrong one is refused before any
    work, with the nearest.
    """

    def __init__(self, *args: Any, names: Callable[[], tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Put the names where the value stands; in front of the help text where they are many."""
        names = self.names()
        self.metavar = "[" + "|".join(names) + "]"
        if len(self.metavar) <= _LONGEST_CHOICE:
            return super().get_help_record(ctx)
        self.metavar = "NAME"
        record = super().get_help_record(ctx)
        return record and (record[0], f"{', '.join(names)}. {record[1]}")

    def type_cast_value(self, ctx: click.Context, value: object) -> object:
        """The name.

        Raises:
            PlanError: it is none of them.
        """
        found = super().type_cast_value(ctx, value)
        if found is None or found == self.default:
            return found
        return choose(str(self.name).replace("_", " "), str(found), self.names(), PlanError)


def named(place: str) -> Callable[[], tuple[str, ...]]:
    """Names that another room keeps, as "module:CONSTANT"; read when they are needed."""
    return Spec("", "", choices=place).names


def reporting(function: Callable[P, R]) -> Callable[P, R]:
    """--json, --quiet and --verbose, for every command; no report may replace what it was given."""

    @functools.wraps(function)
    def checked(*args: P.args, **params: P.kwargs) -> R:
        talk.guard_inputs(params)
        return function(*args, **params)

    wrapped: Callable[P, R] = checked
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


def of(kind: type[Options], *names: str, omit: tuple[str, ...] = ()) -> Callable[[F], F]:
    """The options of a class, as its fields say.

    Args:
        kind: options class.
        names: those that a command takes; none for all of them.
        omit: those that it does not take.
    """
    known, plain = specs(kind), defaults(kind)
    chosen = [name for name in (names or known) if name not in omit]

    def mark(function: F) -> F:
        for name in reversed(chosen):
            function = _option(name, known[name], plain[name])(function)
        return function

    return mark


def _option(name: str, spec: Spec, default: object) -> Callable[[F], F]:
    flag = f"--{name.replace('_', '-')}"
    if spec.off is not None:
        return option(
            *(spec.off, name),
            group=spec.group,
            is_flag=True,
            callback=lambda ctx, param, value: not value,
            help=spec.help,
        )
    if spec.negated:
        both = f"{flag}/--no-{flag.removeprefix('--')}"
        return option(both, group=spec.group, default=True, show_default=True, help=spec.help)
    if default is False:
        return option(flag, group=spec.group, is_flag=True, help=spec.help)
    known: dict[str, object] = {"metavar": spec.metavar}
    if spec.choices:
        known |= {"names": spec.names}
    elif spec.number is not None:
        known |= {"type": Number(spec)}
    elif spec.is_path:
        known |= {"type": PATH}
    if default == ():
        known |= {"default": ""}
    elif default is not None:
        known |= {"default": default, "show_default": True}
    made = NamesOption if spec.choices else Option
    return option(flag, cls=made, group=spec.group, help=spec.help, **known)


@dataclass(frozen=True)
class _Own(Options):
    """Options of no room: what the command line or a single command adds."""

    force: bool = spec_of(
        False, "Replace the output, if it is a directory that qdeploy wrote.", group=OUTPUT
    )
    seed: int = common.seed()
    threads: int | None = common.threads()
    ray_address: str | None = common.ray_address()
    require_int8: float | None = common.require_int8()
    html: PathLike | None = spec_of(
        None,
        "Write the report as one self-contained HTML file.",
        group=OUTPUT,
        is_path=True,
        metavar="FILE",
    )


force, seed, threads = of(_Own, "force"), of(_Own, "seed"), of(_Own, "threads")
ray_address, html = of(_Own, "ray_address"), of(_Own, "html")
require_int8 = of(_Own, "require_int8")
