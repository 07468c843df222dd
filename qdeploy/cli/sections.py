"""Help in sections: every option names the heading that it stands under."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from qdeploy.options import GENERAL

_WIDEST_TERM = 30  # of click's own lists: longer terms have a line of their own


class Option(click.Option):
    """An option that names its heading.

    Attributes:
        group: the heading.
    """

    def __init__(self, *args: Any, group: str = GENERAL, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help lists options by heading.

    Args:
        headings: their order; those that are not named follow as they first appear.
    """

    def __init__(self, *args: Any, headings: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings = headings

    def sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Heading → (term, help) of its options; those that every command has come last."""
        found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in self.headings}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                found.setdefault(getattr(param, "group", GENERAL), []).append(record)
        if GENERAL in found:
            found[GENERAL] = found.pop(GENERAL)
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, with one column of help for all of them."""
        sections = self.sections(ctx)
        terms = [len(term) for rows in sections.values() for term, _ in rows]
        width = min(max(terms, default=0), _WIDEST_TERM)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows])


command = partial(click.command, cls=Command)
option = partial(click.option, cls=Option)
