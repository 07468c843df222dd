"""Numbers that an option takes: bounds are checked while the command line is read, before work."""

from __future__ import annotations

import math
from typing import Any

import click

from qdeploy.errors import nearest


class Number(click.ParamType[int | float | str]):
    """A whole or finite number within bounds; where there are words, one of them as well.

    Args:
        number: int or float.
        least, most: the bounds; None for no bound.
        above: a bound that itself is not taken.
        words: what may stand in place of a number.
        why: the reason of the bounds, as a sentence; said where a number is refused.
    """

    def __init__(
        self,
        number: type[int] | type[float],
        *,
        least: float | None = None,
        most: float | None = None,
        above: float | None = None,
        words: tuple[str, ...] = (),
        why: str = "",
    ) -> None:
        self.number, self.words, self.why = number, words, why
        self.least, self.most, self.above = least, most, above
        self.name = number.__name__

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str:
        """Parse what the user typed.

        Raises:
            click.BadParameter: neither such a number nor a word; the text says what is.
        """
        if value in self.words:
            return str(value)
        try:
            found = self.number(value)
        except (ValueError, OverflowError):
            self.fail(f"'{value}'.{nearest(str(value), self.words)} Give {self.wanted}.", param)
        if not self._holds(found):
            self.fail(f"{value}. Give {self.wanted}. {self.why}".rstrip(), param)
        return found

    def _holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    @property
    def wanted(self) -> str:
        """What the option takes, for a reader.

        >>> Number(int, least=1, words=("auto",)).wanted
        "a whole number from 1 up, or 'auto'"
        >>> Number(float, above=50, most=100).wanted
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


COUNT = Number(int, least=1)
SEED = Number(int, least=0, most=2**32 - 1)  # numpy and torch both take these
POINTS = Number(float, least=0, most=100)  # of accuracy
SHARE = Number(float, least=0, most=1)
