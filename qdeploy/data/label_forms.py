"""Labels that are for another kind of head, told by their form."""

from __future__ import annotations

from qdeploy.data.gold_answers import answers_of
from qdeploy.data.rows import Rows
from qdeploy.data.span_labels import spans_of
from qdeploy.data.tokens import BETWEEN
from qdeploy.errors import DataError

_NO_ANSWER = "[]"  # the label of a question that its context does not answer


def refuse_other_form(rows: Rows, at: int, expected: str, *, several: bool = False) -> None:
    """Refuse a label that is of another kind of head.

    Args:
        rows: with labels.
        at: the place of the row.
        expected: what this head takes, as a clause: "a classifier takes one class a row".
        several: lists of classes are taken.

    Raises:
        DataError: it is gold answers, spans or, where they are not taken, a list of classes.
    """
    assert rows.labels is not None
    form = _form(rows.labels[at])
    if form is None or (several and form == _LIST):
        return
    raise DataError(
        f"{rows.source}, row {rows.row_ids[at] + 1}: the label is {form}, and {expected}. Name "
        "another column with --columns label=COLUMN, or take rows that are for this model."
    )


_LIST = "a list, as of several classes or of tags"


def _form(label: str) -> str | None:
    """What a label is that is no single class or number; None where that does not show.

    >>> _form('[[0, 3, "PER"]]'), _form('[["Ada", 3]]'), _form("good")
    ('a list of spans', 'the gold answers of a question', None)
    """
    if BETWEEN in label or not label:
        return _LIST
    try:
        if label == _NO_ANSWER or (label.startswith("[[") and answers_of(label)):
            return "the gold answers of a question"
    except ValueError:
        return "a list of spans" if spans_of(label) else None
    return None
