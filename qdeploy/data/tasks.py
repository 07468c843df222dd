"""Tasks: which columns hold their text and label, and the order of their classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qdeploy.errors import DataError, PlanError, choose
from qdeploy.schemas.reading import ColumnFields


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a file uses.

    Attributes:
        first: column of the first text.
        second: column of the second text; None where the task has one text only.
        label: column of the class.
        label_required: the user named the label column, so that its absence is an error.
    """

    first: str
    second: str | None
    label: str
    label_required: bool = False

    def to_json(self) -> ColumnFields:
        """The names, by what they hold."""
        return {"first": self.first, "second": self.second, "label": self.label}

    @classmethod
    def from_json(cls, kept: ColumnFields) -> Columns:
        """What `to_json` gave."""
        return cls(kept["first"], kept.get("second"), kept["label"])

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns of the texts: one, or two."""
        return (self.first,) if self.second is None else (self.first, self.second)


@dataclass(frozen=True)
class Task:
    """A task: classification, or answers to questions.

    Attributes:
        name: as typed after `--task`.
        first, second: the task's own column names; `second` is None for one text.
        classes: class names by index, in the order of GLUE (Wang et al. 2019, arXiv 1804.07461) as
            published on the hub; empty where the model alone knows them.
        names_integers: integer labels of a file are indices into `classes`. Elsewhere they stay
            index strings for the model's own order, since published orders differ (MNLI's do).
        label: column of the class; of questions of their gold answers.
    """

    name: str
    first: str
    second: str | None = None
    classes: tuple[str, ...] = ()
    names_integers: bool = False
    label: str = "label"

    @property
    def columns(self) -> Columns:
        """The columns under the task's own names."""
        return Columns(self.first, self.second, self.label)


ANSWERS = "answers"  # column of the gold answers (`qdeploy.data.gold_answers`)
_ENTAILMENT = ("entailment", "not_entailment")

TASKS = {
    task.name: task
    for task in (
        Task("qnli", "question", "sentence", _ENTAILMENT, names_integers=True),
        Task("rte", "sentence1", "sentence2", _ENTAILMENT),
        Task("wnli", "sentence1", "sentence2", ("not_entailment", "entailment")),
        Task("mnli", "premise", "hypothesis", ("entailment", "neutral", "contradiction")),
        Task("mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent")),
        Task("qqp", "question1", "question2", ("not_duplicate", "duplicate")),
        Task("sst2", "sentence", None, ("negative", "positive")),
        Task("cola", "sentence", None, ("unacceptable", "acceptable")),
        Task("squad", "question", "context", label=ANSWERS),
        Task("text", "text"),
        Task("text-pair", "text", "text_pair"),
    )
}


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        PlanError: no such task; the text names the nearest.
    """
    return TASKS[choose("task", name, TASKS, PlanError)]


def generic_task(columns: Columns) -> Task:
    """The task of one text, or of two, whose classes the model alone knows."""
    return find_task("text" if columns.second is None else "text-pair")


def parse_columns(text: str, task: str = "qnli") -> Columns:
    """Read `--columns question=premise,sentence=hypothesis,label=gold`.

    The left sides are the task's own names; a name that is not mentioned stays as it is.

    Raises:
        DataError: a part without `=`, an unknown or repeated left side, an empty right side, one
            column for both texts.

    >>> parse_columns("sentence=passage").second
    'passage'
    """
    known = find_task(task)
    fields = {known.first: "first", known.label: "label"}
    if known.second is not None:
        fields[known.second] = "second"
    changes: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column:
            raise DataError(
                f"--columns: '{part.strip()}' is not NAME=COLUMN. Write it like "
                f"{','.join(f'{own}=COLUMN' for own in fields)}."
            )
        field = fields[choose(f"name in --columns for task {task}", name, fields, DataError)]
        if field in changes:
            raise DataError(f"--columns names '{name}' twice. Name each column once.")
        changes[field] = column
    chosen = replace(known.columns, **changes, label_required="label" in changes)
    if chosen.first == chosen.second:
        raise DataError(
            f"--columns: both texts of task {task} would be read from '{chosen.first}'. Name the "
            f"column of each, or pass --task text for rows of one text."
        )
    return chosen
