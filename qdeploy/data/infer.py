"""`--task auto`: which columns of a source hold the texts and the label, from their names.

The first values decide where names leave several labels, and refuse a text that is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from qdeploy.data.class_columns import class_columns
from qdeploy.data.classes import all_generic, plain_name
from qdeploy.data.gold_answers import are_answers
from qdeploy.data.names import (
    LABELS,
    SECONDS,
    TEXTS,
    check_header,
    check_is_text,
    first_of,
    label_by_name,
    texts_by_name,
)
from qdeploy.data.notice import unread_texts
from qdeploy.data.readers import Table, named
from qdeploy.data.tasks import (
    ANSWERS,
    TASKS,
    Columns,
    Task,
    find_task,
    generic_task,
    parse_columns,
)
from qdeploy.data.values import (
    are_class_names,
    are_classes,
    are_lists,
    is_worded,
    looks_like_text,
    of_column,
    peek,
)
from qdeploy.errors import DataError

AUTO = "auto"
TASK_NAMES = (AUTO, *TASKS)


class Inferred(NamedTuple):
    """What was found of a source.

    Attributes:
        task, columns: of its rows.
        labelled: the source has the column of the label.
        others: columns that look like text and are not read, where nobody named the texts.
        by_values: the label is not the first column with such a name: values decided.
    """

    task: Task
    columns: Columns
    labelled: bool = True
    others: Sequence[str] = ()
    by_values: bool = False


def infer(table: Table, labels: Sequence[str], columns: str | None = None) -> Inferred:
    """The task of a source's rows, and their columns.

    Args:
        table: the source, opened.
        labels: class names of the model: a task of GLUE is one only where they are its classes.
        columns: the text of `--columns`, or None; what it names is taken, the rest inferred.

    Raises:
        DataError: which columns hold the text is not clear, or what would be it holds ids alone.
    """
    if columns is not None and (task := _task_of(columns)) is not None:
        return Inferred(task, _with_classes(parse_columns(columns, task.name), table, labels))
    records = peek(table, table.columns or ())
    known = columns_of(table, records)
    first = label_by_name(known)
    label, classes = _label(known, records, labels), class_columns(known, records, labels)
    if columns is not None:  # it names the label alone
        named_label = parse_columns(columns, "text")
        label, classes = named_label.label, named_label.classes
    elif label is not None and label not in classes:
        # a column that holds classes says more than columns with the names of classes
        classes = () if are_classes(of_column(records, label), labels) else classes
    left = [column for column in known if column not in classes]
    texts = _texts(table.name, left, None if classes else label)
    for column in texts:
        check_is_text(table.name, column, records, "--columns text=COLUMN,label=COLUMN")
    second = texts[1] if len(texts) == 2 else None
    required = columns is not None
    found = Columns(texts[0], second, label or "label", required, classes=classes)
    read = (*texts, *found.labels)
    others = [] if second is not None else unread_texts(known, read, records, TEXTS)
    by_values = columns is None and label is not None and label != first and not classes
    return Inferred(
        _task(records, found, labels),
        found,
        labelled=set(found.labels) <= set(known),
        others=others,
        by_values=by_values,
    )


def _with_classes(columns: Columns, table: Table, labels: Sequence[str]) -> Columns:
    """Columns of which the texts were named; the label too, or columns of classes are it."""
    records = peek(table, table.columns or ())
    known = table.columns or tuple(dict.fromkeys(name for values in records for name in values))
    if columns.label_required or columns.label in known:
        return columns
    left = [column for column in known if column not in columns.texts]
    return replace(columns, classes=class_columns(left, records, labels))


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
    own = {part.partition("=")[0].strip() for part in columns.split(",")} - {"label", "labels"}
    if not own:
        return None
    if ANSWERS in own:
        return find_task("squad")
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


def columns_of(table: Table, records: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """The columns; of a source that does not list them, those of its first records.

    Raises:
        DataError: it has none, or the first cannot be read.
    """
    if table.columns is not None:
        return table.columns
    if not records and next(table.read(()), None) is None:  # a fault in the first is said now
        raise DataError(f"{table.name} holds no rows. Pass a data set that has some.")
    return tuple(dict.fromkeys(column for values in records for column in values))


def published_columns(task: Task, table: Table) -> Columns | None:
    """The columns where a source has them as GLUE's files do; None where they are the task's own.

    Raises:
        DataError: of `columns_of`.
    """
    if not task.published:
        return None
    known = columns_of(table, () if table.columns is not None else peek(table, ()))
    found = task.columns_in(known)
    return None if found == task.columns else found


def _texts(source: str, known: Sequence[str], label: str | None) -> tuple[str, ...]:
    """The column of the text, or the two of a pair.

    Raises:
        DataError: no name says so, and more than one column is left.
    """
    check_header(source, known, "--columns text=COLUMN")
    found = texts_by_name(known, label)
    if found is not None:
        return found
    raise DataError(
        f"{source} has the columns {named(known)}, and their names do not say which holds the "
        "text. Pass --columns text=COLUMN,label=COLUMN, or for pairs --columns text=COLUMN,"
        "text_pair=COLUMN,label=COLUMN. If these are values and no names, write a line of names "
        "above them."
    )


def _label(
    known: Sequence[str], records: Sequence[Mapping[str, object]], labels: Sequence[str]
) -> str | None:
    """The column that holds the class: of those with such a name, the first whose values are the
    model's classes, else the first that holds no text.

    Where none has such a name, it is the one column that holds the model's own class names.
    """
    usual = [column for name in LABELS if (column := first_of([name], known)) is not None]
    values = {column: of_column(records, column) for column in known}
    several = len(labels) > 1
    for column in usual:
        if several and are_classes(values[column], labels):
            return column
    for column in usual:  # what is talked about may be called a target
        is_text = is_worded if column.casefold() in SECONDS else looks_like_text
        if are_lists(values[column]) or not is_text(values[column]):
            return column
    own = [column for column in known if several and are_class_names(values[column], labels)]
    return own[0] if len(own) == 1 else None


def _task(records: Sequence[Mapping[str, object]], columns: Columns, labels: Sequence[str]) -> Task:
    """The task of GLUE with these columns and classes, or else the one that leaves both to the
    model."""
    if columns.classes:
        return generic_task(columns)
    if columns.second is not None and are_answers(of_column(records, columns.label)):
        return find_task("squad")
    own = (*columns.texts, columns.label)
    found = [
        task
        for task in TASKS.values()
        if ((task.first, task.second) == (columns.first, columns.second) or task.published == own)
        and fits(task, labels)
    ]
    if len(found) > 1 and all_generic(labels):
        seen = {plain_name(str(value)) for value in of_column(records, columns.label)}
        found = [t for t in found if seen <= {plain_name(name) for name in t.classes}]
        if len({t.classes for t in found}) > 1:  # they order the same names differently
            found = []
    if found:
        return found[0]
    return generic_task(columns)
