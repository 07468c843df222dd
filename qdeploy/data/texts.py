"""Texts and pairs of texts that a caller holds; nothing is taken for something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TypeAlias

from qdeploy.data.rows import Rows
from qdeploy.errors import DataError

Texts: TypeAlias = Sequence[str] | Sequence[tuple[str, str]] | Sequence[Mapping[str, str]]

_TEXT, _PAIR = "text", "text_pair"  # keys of transformers' pipelines
_HOW = (
    'pass a list of texts, [text, …], of pairs, [(first, second), …], or of {"text", "text_pair"}'
)


def rows_from_texts(texts: Texts) -> Rows:
    """Rows from texts, or from pairs of texts, that a caller holds.

    Args:
        texts: a list (or any other iterable that has an order) of strings; or of pairs, as tuples,
            as lists or as {"text": first, "text_pair": second}. A list of two strings is two
            texts. A tuple of strings is refused: it may be meant as one pair.

    Raises:
        DataError: none at all, a lone text or pair, texts and pairs mixed, or something that is no
            text.
    """
    items = _items(texts)
    if not items:
        raise DataError("No rows were given: pass at least one text, or one pair of texts.")
    read = [_row(at, item) for at, item in enumerate(items)]
    pairs = [second is not None for _, second in read]
    if any(pairs) != all(pairs):
        at = pairs.index(not pairs[0])
        raise DataError(
            f"Row {at} is {_shown(items[at])}, and row 0 is {_shown(items[0])}: texts and pairs of "
            "texts were mixed. Pass all as texts, or all as (first, second)."
        )
    first = tuple(text for text, _ in read)
    second = tuple(text for _, text in read if text is not None)
    name = "given pairs" if second else "given texts"
    return Rows(first, second or None, None, name, tuple(range(len(read))))


def _items(texts: object) -> list[object]:
    """The rows of what was given, unless that is itself one row, or has no order."""
    if isinstance(texts, str):
        raise DataError("One string was given, and a list was expected: pass [text].")
    if isinstance(texts, tuple) and texts and all(isinstance(item, str) for item in texts):
        pair = "[(first, second)] for one pair, or " if len(texts) == 2 else ""
        raise DataError(
            f"A tuple of {len(texts)} strings was given, and a tuple is one pair: pass {pair}"
            "[text, …] for texts of their own."
        )
    if isinstance(texts, Mapping):
        keys = ", ".join(map(_short, list(texts)[:4]))
        raise DataError(f"One dict was given (keys {keys}), and a list was expected: {_HOW}.")
    # a table's iterator gives the names of its columns, and a set's has no order
    table = hasattr(texts, "columns")
    if table or isinstance(texts, Set | bytes | bytearray) or not isinstance(texts, Iterable):
        raise DataError(f"{_shown(texts)} was given, and a list was expected: {_HOW}.")
    try:
        return list(texts)
    except TypeError:  # an array without dimensions says that it can be iterated over
        raise DataError(f"{_shown(texts)} was given, and a list was expected: {_HOW}.") from None


def _row(at: int, item: object) -> tuple[str, str | None]:
    """First and second text of a row."""
    if isinstance(item, Mapping):
        return _of_mapping(at, item)
    if isinstance(item, list | tuple):
        if len(item) != 2:
            raise DataError(
                f"Row {at} is {_shown(item)}, and a pair of texts was expected: pass all texts as "
                "strings, or all as (first, second)."
            )
        return _text(at, item[0], "first text"), _text(at, item[1], "second text")
    return _text(at, item, "text"), None


def _of_mapping(at: int, item: Mapping[object, object]) -> tuple[str, str | None]:
    strange = [key for key in item if key not in (_TEXT, _PAIR)]
    if strange or _TEXT not in item:
        found = ", ".join(map(_short, list(item)[:4])) or "none"
        raise DataError(
            f"Row {at} is a dict with the keys {found}, and 'text', with or without 'text_pair', "
            'was expected: pass {"text": first, "text_pair": second}.'
        )
    second = item.get(_PAIR)
    first = _text(at, item[_TEXT], "'text'")
    return first, None if second is None else _text(at, second, "'text_pair'")


def _text(at: int, value: object, what: str) -> str:
    if not isinstance(value, str):
        how = "decode it with value.decode()" if isinstance(value, bytes | bytearray) else _HOW
        raise DataError(
            f"Row {at}: the {what} is {_shown(value)}, and a string was expected: {how}."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"Row {at}: the {what} holds half of a surrogate pair (U+{ord(value[error.start]):04X} "
            f"at {error.start}), which is no character. Drop such halves: "
            "text.encode('utf-8', 'ignore').decode()."
        ) from None
    return str(value)


def _shown(value: object) -> str:
    """A value with its type, short."""
    if value is None:
        return "None"
    plain = isinstance(value, str | bytes | int | float | list | tuple)
    text, kind = _short(value) if plain else "", type(value).__name__
    return f"{text} ({kind})" if text else f"a {kind}"


def _short(value: object) -> str:
    """The start of a value as Python writes it; "" of one that cannot be written."""
    try:
        text = ascii(value[:60] if isinstance(value, str | bytes) else value)
    except (
        Exception
    ):  # an integer of 5000 digits, a list in itself a thousand times, a foreign repr
        return ""
    return f"{text[:60]}…" if len(text) > 60 else text
