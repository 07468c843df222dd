"""Numbers that an option takes: bounds are checked while the command line is read, before work."""

from __future__ import annotations

import click

from qdeploy.errors import nearest
from qdeploy.options import Spec


class Number(click.ParamType[int | float | str]):
    """A whole or finite number within bounds; where there are words, one of them as well.

    Args:
        spec: what is known of the option: its `number`, bounds and words.
    """

    def __init__(self, spec: Spec) -> None:
        assert spec.number is not None
        self.spec, self.number = spec, spec.number
        self.name = spec.number.__name__

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str:
        """Parse what the user typed.

        Raises:
            click.BadParameter: neither such a number nor a word; the text says what is.
        """
        spec = self.spec
        if value in spec.words:
            return str(value)
        try:
            found = self.number(value)
        except (ValueError, OverflowError):
            self.fail(f"'{value}'.{nearest(str(value), spec.words)} Give {spec.wanted}.", param)
        if not spec.holds(found):
            self.fail(f"{value}. Give {spec.wanted}. {spec.why}".rstrip(), param)
        return found
