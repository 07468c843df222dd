"""Gold answers of a question in a context, in the hub's flat form of SQuAD.

`{"text": ["Ada", "Ada Lovelace"], "answer_start": [3, 3]}` are two answers, each with the character
at which it starts. Empty lists say that the context holds none. A label is one string of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from qdeploy.errors import DataError

TEXT, START = "text", "answer_start"  # names of the hub
_HOW = f'{{"{TEXT}": ["…"], "{START}": [0]}}, with empty lists where there is none, was expected'


class GoldAnswer(NamedTuple):
    """An answer, and where it starts in its context, characters."""

    text: str
    start: int


def are_answers(values: Sequence[object]) -> bool:
    """Whether values of a column are gold answers; False of no values.

    >>> are_answers([{"text": [], "answer_start": []}]), are_answers([{"text": "a"}])
    (True, False)
    """
    return bool(values) and all(
        isinstance(value, dict) and isinstance(value.get(TEXT), list) and START in value
        for value in values
    )


def label_of(where: str, value: object) -> str | None:
    """Gold answers as a label; None where a record has no such value, and so is not labelled.

    Args:
        where: source, place and column, for the error text.
        value: of the record.

    Raises:
        DataError: something else, or lists that do not fit each other.
    """
    if value is None:
        return None
    found = {TEXT: [], START: []} if value == [] else value if isinstance(value, dict) else {}
    texts, starts = found.get(TEXT), found.get(START)
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(f"{where} is {_short(value)}, and {_HOW}. Mend that row.")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
            raise DataError(
                f"{where} holds {_short(text)} at {_short(start)}, and a text and the number of a "
                "character were expected. Mend that row."
            )
    return json.dumps([[text, start] for text, start in zip(texts, starts, strict=True)])


def _short(value: object) -> str:
    try:
        return ascii(value)[:60]
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def answers_of(label: str) -> list[GoldAnswer]:
    """The gold answers of a label that `label_of` made; none of a question without an answer.

    Raises:
        ValueError: another label.

    >>> answers_of('[["Ada", 3]]')
    [GoldAnswer(text='Ada', start=3)]
    """
    try:
        return [GoldAnswer(str(text), int(start)) for text, start in json.loads(label)]
    except TypeError as error:
        raise ValueError(label) from error


def flat_of(label: str) -> dict[str, list[object]]:
    """The hub's flat form of a label: what `label_of` takes.

    Raises:
        ValueError: of `answers_of`.

    >>> flat_of('[["Ada", 3]]')
    {'text': ['Ada'], 'answer_start': [3]}
    """
    found = answers_of(label)
    return {TEXT: [answer.text for answer in found], START: [answer.start for answer in found]}
