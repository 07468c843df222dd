"""Which columns hold the text of rows that need no label: named by the user, or known by name."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.data.readers import named
from qdeploy.data.tasks import TASKS
from qdeploy.errors import DataError

# Names of data sets on the hub, beside those of the tasks.
_PAIRS = (("text1", "text2"), ("question", "context"), ("query", "passage"))
_TEXTS = ("text", "sentence", "content", "review", "comment", "document", "question")
_EXAMPLE = "Name it with --columns COLUMN, or two with --columns FIRST,SECOND."


def find_text_columns(columns: Sequence[str], asked: str | None, source: str) -> tuple[str, ...]:
    """The column of the text, or the two of a pair.

    Args:
        columns: of the source.
        asked: --columns: "text", "question,sentence", or "question=q,sentence=s" with a task's own
            names on the left; None looks for names that are usual.
        source: for error texts.

    Raises:
        DataError: a column that is not there, or none that is known.

    >>> find_text_columns(["id", "sentence2", "sentence1"], None, "rows.csv")
    ('sentence1', 'sentence2')
    """
    if asked is not None:
        chosen = _parse(asked)
        for column in chosen:
            if column not in columns:
                raise DataError(
                    f"{source} has no column '{column}'; it has: {named(columns)}. {_EXAMPLE}"
                )
        return chosen
    pairs = [(task.first, task.second) for task in TASKS.values() if task.second is not None]
    for pair in (*pairs, *_PAIRS):
        if set(pair) <= set(columns):
            return pair
    for column in _TEXTS:
        if column in columns:
            return (column,)
    if len(columns) == 1:
        return tuple(columns)
    raise DataError(
        f"No column of {source} has a usual name for text; it has: {named(columns)}. {_EXAMPLE}"
    )


def _parse(asked: str) -> tuple[str, ...]:
    """One name or two, in the order of the texts.

    Raises:
        DataError: anything else.
    """
    parts = [tuple(piece.strip() for piece in part.split("=", 1)) for part in asked.split(",")]
    if all(len(part) == 1 for part in parts):
        found = tuple(part[0] for part in parts)
    elif all(len(part) == 2 for part in parts):
        found = _by_task({part[0]: part[1] for part in parts})
    else:
        found = ()
    if not 1 <= len(found) <= 2 or not all(found) or len(set(found)) < len(found):
        raise DataError(
            f"--columns is '{asked}', and the column of the text was expected, or those of both "
            "texts of a pair. Write --columns COLUMN, or --columns FIRST,SECOND."
        )
    return found


def _by_task(columns: dict[str, str]) -> tuple[str, ...]:
    """The columns in the order in which a task has its texts; none where no task has these."""
    texts = {name: column for name, column in columns.items() if name != "label"}
    for task in TASKS.values():
        own = [name for name in (task.first, task.second) if name is not None]
        if set(own) == set(texts):
            return tuple(texts[name] for name in own)
    return ()
