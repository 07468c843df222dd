"""Whether the embedded rows may judge a model, or only stand in for its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from qdeploy.data.classes import all_generic
from qdeploy.data.infer import fits
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.tasks import TASKS
from qdeploy.errors import DataError

QNLI = "qnli"


def for_embedded(task: str, labels: Sequence[str], *, named: bool) -> bool:
    """Whether the embedded rows are for a task, and for a model with these classes.

    Args:
        task: of the rows.
        labels: class names of the model. Names that say nothing are those of any task.
        named: somebody asked for this task, or for these rows.
    """
    return task == QNLI and fits(TASKS[QNLI], labels) and (named or not all_generic(labels))


def refuse_embedded(task: str, labels: Sequence[str], when: str) -> NoReturn:
    """Say that the embedded rows do not tell the accuracy of a model.

    Args:
        task: of the rows that are wanted.
        labels: class names of the model.
        when: no rows were named, for the text.

    Raises:
        DataError: in any case.
    """
    fact, way = f"are not for the task {task}", ""
    if task == QNLI:
        fact = f"are not for the classes {', '.join(labels)}"
    if fits(TASKS[QNLI], labels) and task == QNLI:
        fact = f"are not known to be for the classes {', '.join(labels)}, which say nothing"
        way = " If the model was trained on QNLI, pass --task qnli."
    raise DataError(
        f"No --data was named, {when}, and the embedded rows ({MINI}) {fact}. Pass --data with "
        f"labelled rows: a file, a directory or hub:NAME.{way}"
    )
