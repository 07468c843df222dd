"""The words that the tags of a text are of, and tags of entities that are given as spans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from qdeploy.data.rows import Rows
from qdeploy.data.span_labels import Span, spans_of
from qdeploy.errors import DataError
from qdeploy.names import few

Place = tuple[int, int]  # first character of a word, and the one behind its last
OUTSIDE, PREFIXES = "O", ("B", "I", "E", "S")
_WORD = re.compile(r"\S+")
_NAMED = 12  # types, in an error text


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; a tag without a prefix is a type, and reads like I-.

    >>> split_tag("B-PER"), split_tag("O"), split_tag("PER")
    (('B', 'PER'), ('O', ''), ('I', 'PER'))
    """
    prefix, _, kind = tag.partition("-")
    return (prefix, kind) if prefix in (*PREFIXES, OUTSIDE) else ("I", tag)


def are_spans(rows: Rows) -> bool:
    """Whether the gold labels are spans; rows of which none has an entity may be."""
    labels = rows.labels or ()
    return any(map(spans_of, labels)) or not any(labels)


def words_of(rows: Rows) -> list[list[Place]]:
    """The words of each row: those between single blanks.

    Of gold spans they are what stands between white space, cut where a span begins or ends.
    """
    if rows.labels is None or not are_spans(rows):
        return [_between_blanks(text) for text in rows.first]
    both = zip(rows.first, rows.labels, strict=True)
    return [_cut(text, spans_of(label)) for text, label in both]


def _between_blanks(text: str) -> list[Place]:
    found, start = [], 0
    for word in text.split(" "):
        found.append((start, start + len(word)))
        start += len(word) + 1
    return found


def _cut(text: str, spans: Sequence[Span]) -> list[Place]:
    cuts = sorted({edge for span in spans for edge in span[:2]})
    found: list[Place] = []
    for word in _WORD.finditer(text):
        edges = [word.start(), *(c for c in cuts if word.start() < c < word.end()), word.end()]
        found += itertools.pairwise(edges)
    return found


def tags_of_spans(
    where: str, text: str, words: Sequence[Place], spans: Sequence[Span], labels: Sequence[str]
) -> list[str]:
    """The tag of each word, in the scheme of the model: IOB2, IOBES, or types without a prefix.

    Args:
        where: source and row, for the error text.
        text, words: of a row.
        spans: of its entities; none overlap.
        labels: class names of the model.

    Raises:
        DataError: a span without a word of the text, or of a type that the model does not have.
    """
    classes, known = set(labels), {kind for _, kind in map(split_tag, labels) if kind}
    tags = [OUTSIDE] * len(words)
    for span in spans:
        own = [at for at, word in enumerate(words) if span.start <= word[0] and word[1] <= span.end]
        if not own or span.end > len(text):
            raise DataError(
                f"{where}: the span {[*span]} holds no word of the text, which has {len(text)} "
                "characters. Mend that row."
            )
        if span.kind not in known:
            raise DataError(
                f"{where}: the type '{span.kind[:40]}' is none of the model's, which are "
                f"{few(sorted(known), _NAMED)}. Spell the types as the model does."
            )
        for at in own:
            tags[at] = _tag(span.kind, at == own[0], at == own[-1], classes)
    return tags


def _tag(kind: str, first: bool, last: bool, known: set[str]) -> str:
    """The tag of a word of an entity: the first of those that fit which the model has."""
    fitting = ["I"]
    if first:
        fitting.insert(0, "B")
    if last:
        fitting.insert(0, "E")
    if first and last:
        fitting = ["S", "B", "E", "I"]
    spelled = [f"{prefix}-{kind}" for prefix in fitting]
    return next((tag for tag in spelled if tag in known), kind)
