"""Names that columns of texts and of classes have in published data sets, and what they say.

The sets are GLUE, SNLI, MS MARCO, SST, Amazon and Yelp reviews and others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from qdeploy.data.values import is_ids, is_numbers, of_column
from qdeploy.errors import DataError

PAIRS = (
    ("question", "sentence"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "text"),
    ("question", "context"),
    ("question", "passage"),
    ("question", "answer"),
)
SINGLES = (
    *("text", "sentence", "review", "content", "comment", "tweet", "document", "message"),
    *("utterance", "passage", "body", "query", "question", "description", "title"),
    *("tokens", "words"),
)
LABELS = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "gold_label"),
    *("gold", "stars", "rating", "score", "coarse_label", "fine_label", "y", "stance"),
    *("ner_tags", "tags", "similarity", "is_duplicate", "answers", "spans", "entities"),
)
# Second texts that are read only where they are named.
SECONDS = (
    *("second_text", "second_sentence", "text2", "sentence2", "choice", "product", "summary"),
    *("response", "reply", "claim", "evidence", "headline", "abstract", "target", "aspect"),
)
TEXTS = frozenset((*SINGLES, *SECONDS, *(name for pair in PAIRS for name in pair)))
# Columns that only count or name rows: row, user_id, review-id, pairID.
_COUNTS = re.compile(r"|(.*[_\s.-])?(id|ids|idx|index|guid|uuid|row|key)", re.IGNORECASE)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID)")
# The first line of a file without a header, as far as it cannot be one of names.
_SENTENCE_WORDS = 4


def first_of(names: Collection[str], known: Collection[str]) -> str | None:
    """The first of the names that is a column, as the source spells it."""
    spelled = {column.casefold(): column for column in reversed(list(known))}
    return next((spelled[name] for name in names if name in spelled), None)


def texts_by_name(known: Sequence[str], label: str | None) -> tuple[str, ...] | None:
    """The column of the text, or the two of a pair, by their names; None where these do not say.

    Args:
        known: columns of the source.
        label: the one that holds the class, which is no text.
    """
    rest = [column for column in known if column != label]
    for pair in PAIRS:
        found = [first_of([name], rest) for name in pair]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    if (single := first_of(SINGLES, rest)) is not None:
        return (single,)
    left = [column for column in rest if not counts_rows(column)]
    return (left[0],) if len(left) == 1 else None


def label_by_name(known: Sequence[str]) -> str | None:
    """The column that holds the class, by its name."""
    return first_of(LABELS, known)


def counts_rows(column: str) -> bool:
    """Whether a column has a name of those that count rows or name them.

    >>> [counts_rows(name) for name in ("", "user_id", "pairID", "idx", "valid", "text")]
    [True, True, True, True, False, False]
    """
    return bool(_COUNTS.fullmatch(column) or _CAMEL_ID.fullmatch(column))


def check_header(source: str, known: Sequence[str], option: str) -> None:
    """Refuse a file whose first line is a row and no names, where that is plain: a sentence stands
    in it, and no name that columns have.

    Args:
        source: name of the source.
        known: its columns.
        option: what to type where it is a name all the same.

    Raises:
        DataError: with the way out.
    """
    usual = (*TEXTS, *LABELS)
    if any(column.casefold() in usual or counts_rows(column) for column in known if column):
        return
    for column in known:
        if len(column.split()) >= _SENTENCE_WORDS:
            short = column if len(column) <= 40 else f"{column[:40]}…"
            raise DataError(
                f"{source}: the first line names the columns, and '{short}' looks like a text. "
                "Write a line of names above it, such as text,label. If it is a name, pass "
                f"{option}."
            )


def check_is_text(
    source: str, column: str, records: Sequence[Mapping[str, object]], option: str
) -> None:
    """Refuse a column that was taken for the text and holds numbers or ids alone.

    Args:
        source: name of the source.
        column: of the text, as it was inferred.
        records: the first ones.
        option: what to type.

    Raises:
        DataError: with the way out.
    """
    values = of_column(records, column)
    if is_numbers(values) or (column.casefold() not in TEXTS and is_ids(values)):
        raise DataError(
            f"{source}: column '{column}' would be read as text, and it holds ids or numbers, such "
            f"as '{str(values[0])[:40]}'. Name the column of the text: {option}."
        )
