"""One figure of a report, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mood = Literal["good", "bad", ""]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is.
        value: with its unit.
        detail: what belongs to it: its interval, over how many rows.
        mood: "bad" where a reader should stop.
        headline: the value in big letters; "" where a page does not start with it.
    """

    name: str
    value: str
    detail: str = ""
    mood: Mood = ""
    headline: str = ""

    @property
    def text(self) -> str:
        """Value and detail on one line."""
        return f"{self.value} ({self.detail})" if self.detail else self.value
