"""`--task auto`: which columns of a source hold the texts and the label, from their names.

The lists are the names that published data sets of text classification use (GLUE, SNLI, MS MARCO,
SST, Amazon and Yelp reviews, …).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

from qdeploy.data.classes import all_generic, plain_name
from qdeploy.data.readers import Table, named
from qdeploy.data.sources import open_source
from qdeploy.data.tasks import TASKS, Columns, Task, find_task, generic_task, parse_columns
from qdeploy.errors import DataError, PlanError, choose

AUTO = "auto"
TASK_NAMES = (AUTO, *TASKS)

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
)
LABELS = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "gold_label"),
    *("gold", "stars", "rating", "score", "coarse_label", "fine_label", "y"),
)
_NUMBERS = ("id", "idx", "index", "guid", "row", "")  # columns that only count rows
_PEEKED = 100  # records whose labels are looked at


def check_task(name: str) -> None:
    """Refuse what no `--task` is.

    Raises:
        PlanError: no such task; the text names the nearest.
    """
    choose("task", name, TASK_NAMES, PlanError)


def infer(
    source: str | Path, split: str, labels: Sequence[str], columns: str | None = None
) -> tuple[Task, Columns]:
    """The task of a source's rows, and their columns.

    Args:
        source, split: of `qdeploy.data.read_rows`.
        labels: class names of the model: a task of GLUE is one only where they are its classes.
        columns: the text of `--columns`, or None; what it names is taken, the rest inferred.

    Raises:
        DataError: there is no such source, or which columns hold the text is not clear.
    """
    if columns is not None and (task := _task_of(columns)) is not None:
        return task, parse_columns(columns, task.name)
    table = open_source(source, split)
    known = _columns_of(table)
    label = label_by_name(known)
    if columns is not None:  # it names the label alone
        label = parse_columns(columns, "text").label
    texts = _texts(table.name, known, label)
    second = texts[1] if len(texts) == 2 else None
    found = Columns(texts[0], second, label or "label", label_required=columns is not None)
    return _task(table, found, labels), found


def fits(task: Task, labels: Sequence[str]) -> bool:
    """Whether a model with these class names may be one of the task: same names, or generic ones.

    >>> fits(TASKS["qnli"], ["LABEL_0", "LABEL_1"]), fits(TASKS["qnli"], ["bad", "good"])
    (True, False)
    """
    if len(labels) != len(task.classes):
        return False
    return all_generic(labels) or set(map(plain_name, labels)) == set(map(plain_name, task.classes))


def _task_of(columns: str) -> Task | None:
    """The task whose own names stand on the left of `--columns`; None where only the label does.

    Raises:
        DataError: names of no task.
    """
    own = {part.partition("=")[0].strip() for part in columns.split(",")} - {"label"}
    if not own:
        return None
    generic = find_task("text-pair" if "text_pair" in own else "text")
    known = {task: {task.first, task.second} - {None} for task in (generic, *TASKS.values())}
    for task, names in known.items():
        if own == names:
            return task
    for task, names in known.items():
        if own < names:
            return task
    raise DataError(
        f"--columns: {', '.join(sorted(own))} are not the columns of one task. Write "
        "text=COLUMN,label=COLUMN for rows of one text, or text=COLUMN,text_pair=COLUMN,"
        "label=COLUMN for pairs; or name the --task."
    )


def _columns_of(table: Table) -> tuple[str, ...]:
    """The columns; of a source that does not list them, those of its first record."""
    if table.columns is not None:
        return table.columns
    return next((tuple(values) for _, values in table.read(())), ())


def _first(names: Collection[str], known: Collection[str]) -> str | None:
    """The first of the names that is a column, as the source spells it."""
    spelled = {column.casefold(): column for column in reversed(list(known))}
    return next((spelled[name] for name in names if name in spelled), None)


def _texts(source: str, known: Sequence[str], label: str | None) -> tuple[str, ...]:
    """The column of the text, or the two of a pair.

    Raises:
        DataError: no name says so, and more than one column is left.
    """
    found = texts_by_name(known, label)
    if found is not None:
        return found
    raise DataError(
        f"{source} has the columns {named(known)}, and their names do not say which holds the "
        "text. Pass --columns text=COLUMN,label=COLUMN, or for pairs --columns text=COLUMN,"
        "text_pair=COLUMN,label=COLUMN."
    )


def texts_by_name(known: Sequence[str], label: str | None) -> tuple[str, ...] | None:
    """The column of the text, or the two of a pair, by their names; None where these do not say.

    Args:
        known: columns of the source.
        label: the one that holds the class, which is no text.
    """
    rest = [column for column in known if column != label]
    for pair in PAIRS:
        found = [_first([name], rest) for name in pair]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    if (single := _first(SINGLES, rest)) is not None:
        return (single,)
    left = [column for column in rest if column.casefold() not in _NUMBERS]
    return (left[0],) if len(left) == 1 else None


def label_by_name(known: Sequence[str]) -> str | None:
    """The column that holds the class, by its name."""
    return _first(LABELS, known)


def _task(table: Table, columns: Columns, labels: Sequence[str]) -> Task:
    """The task of GLUE with these columns and classes, or else the one that leaves both to the
    model."""
    texts = (columns.first, columns.second)
    found = [t for t in TASKS.values() if (t.first, t.second) == texts and fits(t, labels)]
    if len(found) > 1 and all_generic(labels):
        seen = _labels_of(table, columns)
        found = [t for t in found if seen <= {plain_name(name) for name in t.classes}]
        if len({t.classes for t in found}) > 1:  # they order the same names differently
            found = []
    if found:
        return found[0]
    return generic_task(columns)


def _labels_of(table: Table, columns: Columns) -> set[str]:
    """Classes of the first rows."""
    records = itertools.islice(table.read((columns.label,)), _PEEKED)
    return {plain_name(str(v[columns.label])) for _, v in records if columns.label in v}
