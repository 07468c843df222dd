"""What is read of a source, and what is not, in one line: the same for every command."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

from qdeploy.data.tasks import BETWEEN_COLUMNS, Columns, Task, generic_task
from qdeploy.data.values import looks_like_text, of_column
from qdeploy.errors import QDeployWarning
from qdeploy.names import few

_LOG = logging.getLogger(__name__)
_NAMED = 6  # columns that are not read


def read_text(source: str, parts: Mapping[str, str], unread: Sequence[str]) -> str:
    """The line.

    Args:
        source: name of the source.
        parts: by what it is for ("text", "label"), the column that is read.
        unread: the other columns.

    >>> read_text("reviews.csv", {"text": "comment", "label": "rating"}, ["id"])
    'reviews.csv: text = comment, label = rating; not read: id'
    """
    text = f"{source}: " + ", ".join(f"{name} = {column}" for name, column in parts.items())
    if not unread:
        return text
    return f"{text}; not read: {few(unread, _NAMED)}"


def say(text: str) -> None:
    """Tell whoever listens: the command line prints it on standard error, logging keeps it."""
    _LOG.info("%s", text)


def say_read(source: str, known: Sequence[str], task: Task, columns: Columns) -> None:
    """Say which columns of a source are read.

    Args:
        source: its name.
        known: its columns.
        task: what its rows are for; one of GLUE is named.
        columns: those that are read.
    """
    named = [name for name in (task.first, task.second) if name is not None]
    parts = dict(zip(named, columns.texts, strict=False))
    if set(columns.labels) <= set(known):
        side = columns.spelled_label[0]
        parts[side] = few(columns.labels, _NAMED, BETWEEN_COLUMNS)
    unread = [column for column in known if column not in (*columns.texts, *columns.labels)]
    task_name = "" if task == generic_task(columns) else f" as {task.name}"
    text = read_text(f"{source}{task_name}", parts, unread)
    say(text if len(parts) > len(named) else f"{text}; no label")


def say_texts(source: str, known: Sequence[str], texts: Sequence[str], kept: Sequence[str]) -> None:
    """Say which columns of rows that need no label are read.

    Args:
        source: name of the rows.
        known: their columns.
        texts: the column of the text, or the two of a pair.
        kept: columns that go with the answers.
    """
    parts = dict(zip(("text", "text_pair"), texts, strict=False))
    unread = [column for column in known if column not in (*texts, *kept)]
    say(read_text(source, parts, unread))


def unread_texts(
    known: Sequence[str],
    read: Sequence[str],
    records: Sequence[Mapping[str, object]],
    names: Collection[str],
) -> list[str]:
    """Columns that hold texts, by their values, and are not read.

    Args:
        known: columns of the source.
        read: those that are read.
        records: the first ones.
        names: that columns of texts have, in small letters.
    """
    found = []
    for column in known:
        named = column.casefold() in names
        if column not in read and looks_like_text(of_column(records, column), named=named):
            found.append(column)
    return found


def warn_of_unread(
    source: str, text: str, others: Sequence[str], *, single: str, pair: Callable[[str], str]
) -> None:
    """Warn that a column looks like text and is not read.

    Args:
        source: name of the source.
        text: the column that is read.
        others: those that are not.
        single: what to type where it is the only text.
        pair: what to type for pairs, from the column of the second.
    """
    if not others:
        return
    which = ", ".join(f"'{column}'" for column in others[:_NAMED])
    verb = "looks like text and is" if len(others) == 1 else "look like text and are"
    warnings.warn(
        f"{source}: {which} {verb} not read. For pairs of texts pass {pair(others[0])}; for "
        f"'{text}' alone pass {single}, and this is not said again.",
        QDeployWarning,
        stacklevel=4,
    )
