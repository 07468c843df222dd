"""What is kept of the tokens of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from qdeploy.data.excerpt import Part
from qdeploy.data.frame import Frame


class Token(NamedTuple):
    """A token of a text: its id, itself, and where it stands in the row's text, characters."""

    id: int
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Kept:
    """So many tokens of a part, from `first` on."""

    part: Part
    first: int
    count: int

    @property
    def ids(self) -> list[int]:
        return self.part.encoding.ids[self.first : self.first + self.count]

    def spelled(self) -> list[Token]:
        """Each with its place in the whole text."""
        found, start = self.part.encoding, self.part.start
        kept = slice(self.first, self.first + self.count)
        columns = zip(found.ids[kept], found.tokens[kept], found.offsets[kept], strict=True)
        return [Token(i, text, start + a, start + b) for i, text, (a, b) in columns]


class KeptRow(NamedTuple):
    """What is kept of the texts of a row, and what stands around them."""

    frame: Frame
    texts: list[Kept]
    truncated: bool
