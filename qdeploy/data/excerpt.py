"""The part of a long text that decides which of its tokens are kept.

A row keeps some hundred tokens, and a text of 10 MB has millions: with their places and words they
take gigabytes. Tokenizers work from left to right and look around a word only: the tokens of a part
are those of the whole text up to a few words before the cut. So a part is tokenized, and taken when
enough of its tokens stand away from the cut; else a longer one is, at last the whole text. (The
words are the tokenizer's own. One without any, or a text that is one word, goes the long way.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# The first part: characters for each token that is kept, and some more. English has four to five.
_EACH, _MORE, _GROWTH = 8, 1024, 4
# Words, and characters, between the tokens that count and the cut.
_WORDS, _CHARACTERS = 8, 256
_BEFORE_SPACE = re.compile(r"\S(?=\s)")
_SEARCHED = 4096  # characters in which white space is looked for
_WINDOW = 1 << 16  # characters of which tokens are counted at a time


class Part(NamedTuple):
    """Tokens of a text or of a part of it, without special ones.

    Attributes:
        encoding: the tokens.
        start: where the part starts in the text, characters.
        whole: it is all of the text.
    """

    encoding: Encoding
    start: int
    whole: bool


class Excerpts:
    """Parts of texts, for one tokenizer.

    Args:
        tokenizer: without truncation.
        side: the end that is cut off, "right" or "left".
    """

    def __init__(self, tokenizer: Tokenizer, side: str) -> None:
        self._tokenizer = tokenizer
        self._left = side == "left"
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        # A token with a space in it may be cut in two; from the left, all that follow may shift.
        spaced = any(re.search(r"\s", content) for content in added)
        longest = max(map(len, added), default=0)
        self._whole = longest > _CHARACTERS // 2 or (self._left and spaced)

    def of(self, text: str, kept: int) -> Part:
        """A part of the text with more than `kept` tokens, of which the outermost `kept` (first, or
        last where the left is cut off) are the whole text's; or the whole text."""
        size = _EACH * kept + _MORE
        while not self._whole and 2 * size < len(text):
            start, end = self._bounds(text, size)
            if start < end:
                found = self._encode(text[start:end])
                if self._stands(found, kept, end - start):
                    return Part(found, start, whole=False)
            size *= _GROWTH
        return Part(self._encode(text), 0, whole=True)

    def has_more(self, first: str, second: str) -> bool:
        """Whether the first text has more tokens than the second, in memory of a part of them."""
        if len(first) < len(second):
            tokens = self._count(first)
            return self._count(second, tokens - 1) < tokens
        tokens = self._count(second)
        return self._count(first, tokens) > tokens

    def _count(self, text: str, enough: int | None = None) -> int:
        """Tokens of a text, window by window; where it has more than `enough`, no more of them."""
        count = start = 0
        while start < len(text) and (enough is None or count <= enough):
            end = self._space(text, start + _WINDOW) or len(text)
            found = None if self._whole else self._between(text, start, end)
            if found is None:
                return len(self._encode(text))
            count, start = count + found, end
        return count

    def _between(self, text: str, start: int, end: int) -> int | None:
        """Tokens that start from here to there; None where words are too long to tell."""
        around = 8 * _CHARACTERS
        low = self._space(text, start - around - _SEARCHED) if start > around + _SEARCHED else 0
        high = self._space(text, end + around) or len(text)
        if low is None:
            return None
        found = self._encode(text[low:high])
        inside = [at for at, (place, _) in enumerate(found.offsets) if start <= low + place < end]
        if not inside:
            return 0
        first, last = inside[0], inside[-1]
        if (low > 0 and self._words(found, 0, first) < _WORDS) or (
            high < len(text) and self._words(found, last, len(found) - 1) < _WORDS
        ):
            return None
        return len(inside)

    def _bounds(self, text: str, size: int) -> tuple[int, int]:
        """Where a part of about this size starts and ends; empty where no place is found."""
        if self._left:
            start = self._space(text, len(text) - size - _SEARCHED)
            return (len(text) if start is None else start), len(text)
        # tokens of words before the last do not depend on it, so that it may be cut, too
        return 0, self._space(text, size) or len(text[:size].rstrip())

    def _space(self, text: str, start: int) -> int | None:
        """The first white space behind something else, from there on and not far."""
        found = _BEFORE_SPACE.search(text, max(start, 0), max(start, 0) + _SEARCHED)
        return found.end() if found else None

    def _stands(self, found: Encoding, kept: int, length: int) -> bool:
        """Whether the last token that counts, and one more, is far enough from the cut."""
        last = len(found) - 1
        at, other = (last - kept, 0) if self._left else (kept, last)
        if not 0 <= at <= last:
            return False
        place = found.token_to_chars(at)
        if place is None or self._words(found, *sorted((at, other))) < _WORDS:
            return False
        return (place[0] if self._left else length - place[1]) >= _CHARACTERS

    def _words(self, found: Encoding, first: int, last: int) -> int:
        """Words from one token to another; 0 where the tokenizer does not say."""
        low, high = found.token_to_word(first), found.token_to_word(last)
        return 0 if low is None or high is None else high - low

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)


def is_long(text: str, kept: int) -> bool:
    """Whether a part of the text may do, where so many of its tokens are kept."""
    return len(text) > 2 * (_EACH * kept + _MORE)
