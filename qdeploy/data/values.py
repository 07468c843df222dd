"""What the first values of columns look like: texts, ids, or classes of the model."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from qdeploy.data.classes import all_generic, generic_index, plain_name, whole_number
from qdeploy.data.readers import Table
from qdeploy.data.tokens import BETWEEN, items_of
from qdeploy.errors import DataError

PEEKED = 100  # records that are looked at
_SELDOM = 4  # rows at most, on average, that have one text; of a class there are more
_LONGEST = 20_000  # characters of a value that are looked at

# Words of letters; scripts that are written without spaces (Thai to Khmer, kana, Han) by length.
_WORDS = re.compile(r"[^\W\d_]{2,}[^\s\w]*\s+\W*[^\W\d_]{2,}")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{6,}")
_NUMBER = re.compile(r"[\d\s.,:/+-]+")
_ID = re.compile(r"[\w.:/+=#-]*\d[\w.:/+=#-]*")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_BOOLEANS = ("false", "true")


def peek(table: Table, columns: Collection[str]) -> list[Mapping[str, object]]:
    """The first records, with these columns at least; fewer where one cannot be read: whoever
    reads them all says what is wrong."""
    found: list[Mapping[str, object]] = []
    with contextlib.suppress(DataError):
        for _, values in itertools.islice(table.read(columns), PEEKED):
            found.append(values)
    return found


def of_column(records: Iterable[Mapping[str, object]], column: str) -> list[object]:
    """Values of a column, without those that say that there is none."""
    found = (values.get(column) for values in records)
    return [value for value in found if not _is_missing(value)]


def _is_missing(value: object) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def looks_like_text(values: Sequence[object], *, named: bool = False) -> bool:
    """Whether the values are texts that somebody wrote: of several words, and seldom the same.

    Args:
        values: of `of_column`.
        named: the column has a name that texts have: words that are no ids will do.

    >>> looks_like_text(["a fine film", "not so good"]), looks_like_text(["good", "bad", "good"])
    (True, False)
    """
    texts = [value for value in values if isinstance(value, str)]
    if named:
        lettered = sum(_LETTERS.search(text[:1000]) is not None for text in texts)
        return 2 * lettered > len(values) and not is_ids(texts)
    return _SELDOM * len(set(texts)) > len(values) and is_worded(values)


def is_worded(values: Sequence[object]) -> bool:
    """Whether most of the values are several words; False of no values.

    >>> is_worded(["climate change", "abortion", "the wall"]), is_worded(["good", "bad"])
    (True, False)
    """
    texts = [value for value in values if isinstance(value, str)]
    return 2 * sum(map(_has_words, texts)) > len(values)


def _has_words(text: str) -> bool:
    start = text[:1000]
    return bool(_WORDS.search(start) or _UNSPACED.search(start))


def is_numbers(values: Sequence[object]) -> bool:
    """Whether every value is a number, a date or a time; False of no values."""
    return bool(values) and all(_NUMBER.fullmatch(str(value)[:100]) for value in values)


def is_ids(values: Sequence[object]) -> bool:
    """Whether every value is a number or an id: one word with a digit in it; False of no values.

    >>> is_ids(["u17", "u18"]), is_ids(["17", "18"]), is_ids(["good", "4 stars"])
    (True, True, False)
    """
    return bool(values) and all(_ID.fullmatch(str(value)[:100]) for value in values)


def are_lists(values: Sequence[object]) -> bool:
    """Whether lists are among the values: those of several items are joined, empty ones stay."""
    return any(value == [] or (isinstance(value, str) and BETWEEN in value) for value in values)


def are_classes(values: Sequence[object], labels: Sequence[str]) -> bool:
    """Whether every value names a class of the model, or all are indices of its classes.

    Args:
        values: of `of_column`.
        labels: class names by index.
    """
    return are_class_names(values, labels) or _are_indices(values, len(labels))


def are_class_names(values: Sequence[object], labels: Sequence[str]) -> bool:
    """Whether every value names a class of the model; False where its names say nothing."""
    if not values or all_generic(labels):
        return False
    names = _plain(values)
    return bool(names) and names <= {plain_name(name) for name in labels}


def _are_indices(values: Sequence[object], classes: int) -> bool:
    names = _plain(values) - {"-1"}
    if classes == 2 and names and names <= set(_BOOLEANS):
        return True
    numbers = [whole_number(name) for name in names]
    numbers = [generic_index(n) if i is None else i for n, i in zip(names, numbers, strict=True)]
    return bool(numbers) and all(i is not None and 0 <= i < classes for i in numbers)


def _plain(values: Sequence[object]) -> set[str]:
    """The names that stand in the values, of a list in each."""
    texts = (str(value)[:_LONGEST] for value in values if not isinstance(value, list | dict))
    return {plain_name(item[:200]) for text in texts for item in items_of(text)}


def is_writable(text: str) -> bool:
    """Whether it can be written: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """A value for an error text: short, and never an error of its own."""
    try:
        return repr(value[:40] if isinstance(value, str | bytes) else value)[:40]
    except (RecursionError, ValueError):  # nested, or an integer beyond Python's limit
        return f"a {type(value).__name__}"
