"""Which columns hold the text of rows that need no label: asked for, remembered, or by name."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.data.names import check_header, label_by_name, texts_by_name
from qdeploy.data.readers import named
from qdeploy.data.tasks import TASKS
from qdeploy.errors import DataError

_EXAMPLE = "Name it with --columns COLUMN, or two with --columns FIRST,SECOND."


def find_text_columns(
    columns: Sequence[str], asked: str | None, source: str, remembered: Sequence[str] = ()
) -> tuple[str, ...]:
    """The column of the text, or the two of a pair.

    Args:
        columns: of the source.
        asked: --columns: "text", "question,sentence", or "question=q,sentence=s" with a task's own
            names on the left; None goes by the names of the columns (`qdeploy.data.infer`).
        source: for error texts.
        remembered: columns that the engine was built with, which are taken where they are there.

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
    if remembered and set(remembered) <= set(columns):
        return tuple(remembered)
    check_header(source, columns, "--columns COLUMN")
    found = texts_by_name(columns, label_by_name(columns)) or texts_by_name(columns, None)
    if found is not None:
        return found
    raise DataError(
        f"{source} has the columns {named(columns)}, and their names do not say which holds the "
        f"text. {_EXAMPLE}"
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
    texts = {name: column for name, column in columns.items() if name not in ("label", "labels")}
    for task in TASKS.values():
        own = [name for name in (task.first, task.second) if name is not None]
        if set(own) == set(texts):
            return tuple(texts[name] for name in own)
    return ()
