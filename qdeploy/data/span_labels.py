"""Gold entities of a text as spans of its characters.

A span is `[0, 3, "PER"]`, as Doccano writes it, or `{"start": 0, "end": 3, "label": "PER"}`, as
spaCy's and Prodigy's files have it. A label is one string of JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import NamedTuple

from qdeploy.data.values import shown
from qdeploy.errors import DataError

_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset")
_KINDS = ("label", "type", "entity", "entity_group", "tag")
_BEGIN = "[["  # of a label: no joined tags begin so
_HOW = '[0, 3, "PER"] or {"start": 0, "end": 3, "label": "PER"}'


class Span(NamedTuple):
    """An entity: its first character, the one behind its last, and its type."""

    start: int
    end: int
    kind: str


def are_spans(value: object) -> bool:
    """Whether a value is a list of what may be spans.

    >>> are_spans([[0, 3, "PER"]]), are_spans([{"start": 0}]), are_spans(["PER"]), are_spans([])
    (True, True, False, False)
    """
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(map(_may_be_span, parts))


def _may_be_span(part: object) -> bool:
    if isinstance(part, list):
        return len(part) > 1 and isinstance(part[0], int)
    return isinstance(part, Mapping) and any(name in part for name in _STARTS)


def span_label(where: str, value: list[object]) -> str:
    """Spans as a label, in the order of their characters.

    Args:
        where: source, place and column, for the error text.
        value: of the record.

    Raises:
        DataError: an item that is no span, or two that overlap: a word has one class.

    >>> span_label("x", [{"start": 4, "end": 6, "label": "LOC"}, [0, 3, "PER"]])
    '[[0, 3, "PER"], [4, 6, "LOC"]]'
    """
    spans = sorted(_span(where, item) for item in value)
    for one, next_ in itertools.pairwise(spans):
        if next_.start < one.end:
            raise DataError(
                f"{where} has spans that overlap: {[*one]} and {[*next_]}. A word has one class: "
                "drop one of them."
            )
    return json.dumps(spans)


def spans_of(label: str) -> list[Span]:
    """The spans of a label that `span_label` made; none of any other label."""
    return [Span(*span) for span in json.loads(label)] if label.startswith(_BEGIN) else []


def _span(where: str, item: object) -> Span:
    parts: list[object] = []
    if isinstance(item, list):
        parts = item[:3]
    elif isinstance(item, Mapping):
        names = ([n for n in known if n in item] for known in (_STARTS, _ENDS, _KINDS))
        parts = [item[found[0]] for found in names if found]
    if len(parts) == 3:
        start, end, kind = parts
        numbers = type(start) is int and type(end) is int
        if numbers and isinstance(kind, str) and 0 <= start < end and kind.strip():  # type: ignore[operator]
            return Span(start, end, kind.strip())  # type: ignore[arg-type]
    raise DataError(f"{where} holds {shown(item)}, and a span like {_HOW} was expected. Mend it.")
