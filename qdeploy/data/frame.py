"""What stands around the texts of a row: special tokens, and how the texts share the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdeploy.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TRIED = 1000  # tokens of the vocabulary, to find a text that has one


@dataclass(frozen=True)
class Frame:
    """Special tokens around one text or two.

    Attributes:
        ids: of every special token, with None where a text stands.
        types: token types of the special tokens, and of every token of the text at a None.
    """

    ids: tuple[int | None, ...]
    types: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: int) -> Frame:
        """What the tokenizer's post-processor puts around so many texts.

        Raises:
            ModelError: it has no token for any text, or leaves a text out.
        """
        text = _one_token(tokenizer)
        found = tokenizer.encode(text, text if texts == 2 else None)
        ids: list[int | None] = []
        types: list[int] = []
        before: int | None = None
        for number, kind, place in zip(found.ids, found.type_ids, found.sequence_ids, strict=True):
            if place is None or place != before:
                ids.append(number if place is None else None)
                types.append(kind)
            before = place
        if ids.count(None) != texts:
            raise ModelError(
                "The tokenizer gives no tokens of a text: its vocabulary or post-processor is "
                "damaged. Export the model anew."
            )
        return cls(tuple(ids), tuple(types))

    @property
    def special(self) -> int:
        """How many special tokens there are."""
        return sum(number is not None for number in self.ids)

    def around(self, texts: Sequence[list[int]]) -> tuple[list[int], list[int]]:
        """Ids and token types of a row.

        Args:
            texts: ids of each text.
        """
        ids: list[int] = []
        types: list[int] = []
        left = iter(texts)
        for number, kind in zip(self.ids, self.types, strict=True):
            part = next(left) if number is None else [number]
            ids += part
            types += [kind] * len(part)
        return ids, types


def _one_token(tokenizer: Tokenizer) -> str:
    """A text that has a token, in any vocabulary."""
    known = (tokenizer.id_to_token(at) or "" for at in range(_TRIED))
    for text in ("a", *known):
        if len(tokenizer.encode(text, add_special_tokens=False)):
            return text
    return "a"


def longest_first(counts: Sequence[int], room: int) -> tuple[int, ...]:
    """Tokens that each text keeps, as `tokenizers` has it: the longer one loses first.

    Args:
        counts: tokens of one text or two.
        room: tokens that the row keeps of them.

    >>> longest_first((90, 4), 9), longest_first((90, 80), 9), longest_first((80, 80), 9)
    ((5, 4), (5, 4), (4, 5))
    """
    if sum(counts) <= room or len(counts) == 1:
        return tuple(min(count, room) for count in counts)
    least, half = min(counts), room // 2
    if least <= half:
        short, long = least, room - least
    else:
        short, long = half, room - half
    return (long, short) if counts[0] > counts[1] else (short, long)
