"""Options, written once: a frozen dataclass beside what it configures.

What is known of a field stands in its metadata. The command line makes its options of that, Python
its signatures and their texts, and recipes and searches read names, bounds and choices. A field
may be an options class of its own (`nested`): callers write all names on one level.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict, TypeVar

from typing_extensions import Unpack

from qdeploy.errors import PlanError, QDeployError, choose, nearest

# Headings of help that several commands share.
DATA = "Data"
MEASURED = "What is measured"
GATES = "Gates (exit code 1)"
OUTPUT = "Output"
GENERAL = "General"
LATENCY = "Latency"
_SPEC, _NESTED = "option", "nested"
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
OptionsT = TypeVar("OptionsT", bound="Options")


@dataclass(frozen=True)
class Spec:
    """What is known of an option, besides its type and its default.

    Attributes:
        help: one or two sentences; what None means stands in it.
        group: heading of the command line's help.
        choices: names to choose from, or "module:CONSTANT" where another room keeps them.
        number: int or float, of a number with bounds.
        least, most: its bounds, None for none; `above` is a lower bound that itself is not taken.
        words: what may stand in place of a number.
        why: the reason of the bounds, a sentence that is said where a number is refused.
        error: what a wrong name raises.
        metavar: what stands for the value in help.
        is_path: a place on disk.
        negated: a flag that has a `--no-` form too, and is on when left out.
        off: the one form of a flag that is on when left out; its help says what the form does.
    """

    help: str
    group: str
    choices: tuple[str, ...] | str = ()
    number: type[int] | type[float] | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    words: tuple[str, ...] = ()
    why: str = ""
    error: type[QDeployError] = PlanError
    metavar: str | None = None
    is_path: bool = False
    negated: bool = False
    off: str | None = None

    def names(self) -> tuple[str, ...]:
        """The choices; none where any text will do."""
        if isinstance(self.choices, str):
            module, constant = self.choices.split(":")
            return tuple(getattr(importlib.import_module(module), constant))
        return self.choices

    @property
    def wanted(self) -> str:
        """The numbers that it takes, for a reader.

        >>> Spec("", "", number=int, least=1, words=("auto",)).wanted
        "a whole number from 1 up, or 'auto'"
        >>> Spec("", "", number=float, above=50, most=100).wanted
        'a number above 50 and up to 100'
        """
        text = "a whole number" if self.number is int else "a number"
        if self.above is not None:
            text += f" above {self.above:g}"
            text += "" if self.most is None else f" and up to {self.most:g}"
        elif self.least is not None:
            text += f" from {self.least:g} "
            text += "up" if self.most is None else f"to {self.most:.10g}"
        return ", or ".join([text, *(f"'{word}'" for word in self.words)])

    def holds(self, value: float) -> bool:
        """Whether a number is within the bounds."""
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    def check(self, name: str, value: object) -> None:
        """Refuse a value that it does not take.

        Raises:
            PlanError: with what it does; `error` for a wrong name.
        """
        if value is None:
            return
        flag = f"--{name.replace('_', '-')}"
        if self.choices:
            choose(name.replace("_", " "), str(value), self.names(), self.error)
        elif self.number is not None and value not in self.words:
            kinds = (int,) if self.number is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                more = nearest(value, self.words) if isinstance(value, str) else ""
                raise PlanError(f"{flag} is {value!r}.{more} Give {self.wanted}.")
            if not self.holds(value):
                raise PlanError(f"{flag} is {value}. Give {self.wanted}. {self.why}".rstrip())


class _Known(TypedDict, total=False):
    """The fields of `Spec` that have a default."""

    choices: tuple[str, ...] | str
    number: type[int] | type[float] | None
    least: float | None
    most: float | None
    above: float | None
    words: tuple[str, ...]
    why: str
    error: type[QDeployError]
    metavar: str | None
    is_path: bool
    negated: bool
    off: str | None


def option(default: T, help: str, *, group: str, **known: Unpack[_Known]) -> T:
    """A field of an options class; `known` is of `Spec`."""
    return dataclasses.field(default=default, metadata={_SPEC: Spec(help, group, **known)})


def nested(kind: Callable[[], T]) -> T:
    """A field that is an options class of its own, with its defaults."""
    found: T = dataclasses.field(default_factory=kind, metadata={_NESTED: kind})
    return found


@dataclass(frozen=True)
class Options:
    """What every options class extends: its values are checked when it is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if (spec := field.metadata.get(_SPEC)) is not None:
                spec.check(field.name, getattr(self, field.name))


def specs(kind: type[Options]) -> dict[str, Spec]:
    """What is known of each option, nested ones on the same level, in order."""
    return {field.name: field.metadata[_SPEC] for field in _leaves(kind)}


def defaults(kind: type[Options]) -> dict[str, object]:
    """The default of each option, in order."""
    return {field.name: field.default for field in _leaves(kind)}


def _leaves(kind: type[Options]) -> Iterator[dataclasses.Field[object]]:
    for field in dataclasses.fields(kind):
        if (inner := field.metadata.get(_NESTED)) is not None:
            yield from _leaves(inner)
        elif _SPEC in field.metadata:
            yield field


def make(kind: type[OptionsT], given: Mapping[str, object]) -> OptionsT:
    """An options object from names on one level.

    Raises:
        TypeError: a name that is none of its options, with the nearest.
        PlanError: a value that an option does not take.
    """
    known = specs(kind)
    for name in given:
        if name not in known:
            raise TypeError(f"unexpected keyword argument '{name}'.{nearest(name, tuple(known))}")
    return _filled(kind, given)


def _filled(kind: type[OptionsT], given: Mapping[str, object]) -> OptionsT:
    values: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        if (inner := field.metadata.get(_NESTED)) is not None:
            values[field.name] = _filled(inner, given)
        elif field.name in given:
            values[field.name] = given[field.name]
    return kind(**values)


def flat(options: Options) -> dict[str, object]:
    """The values on one level, in order: what `make` takes."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if _NESTED in field.metadata:
            found |= flat(value)
        elif _SPEC in field.metadata:
            found[field.name] = value
    return found


def changed(options: OptionsT, **values: object) -> OptionsT:
    """The same options with some values changed, nested ones by their own names.

    Raises:
        TypeError, PlanError: see `make`.
    """
    return make(type(options), flat(options) | values)


def given_or(
    kind: type[OptionsT], options: OptionsT | None, fields: Mapping[str, object]
) -> OptionsT:
    """What a function was told: an options object, its fields as keywords, or both.

    Raises:
        TypeError, PlanError: see `make`.
    """
    if options is None:
        return make(kind, fields)
    return changed(options, **fields) if fields else options


def documented(kind: type[Options], *, omit: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Give a function that takes `**fields` of an options class its signature and their texts."""

    def mark(function: F) -> F:
        plain = inspect.signature(function)
        hints = types_of(kind)
        own = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=hints[name]
            )
            for name, value in defaults(kind).items()
            if name not in omit
        ]
        function.__signature__ = plain.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        known = {name: spec for name, spec in specs(kind).items() if name not in omit}
        lines = [f"    {name}: {spec.help}" for name, spec in known.items()]
        doc = inspect.getdoc(function) or ""
        function.__doc__ = "\n".join([doc, "", f"Options (`{kind.__name__}`):", *lines])
        return function

    return mark


def types_of(kind: type[Options]) -> dict[str, str]:
    """The annotation of each option, as its class writes it."""
    return {field.name: str(field.type) for field in _leaves(kind)}
