"""Tasks: which columns hold their text and label, and the order of their classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from qdeploy.errors import DataError, PlanError, choose
from qdeploy.schemas.quality import ACCURACY
from qdeploy.schemas.reading import ColumnFields

BETWEEN_COLUMNS = "+"  # of the columns of `--columns labels=`
MCC, F1 = "MCC", "F1"  # what a task with classes may be judged by in place of accuracy


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a file uses.

    Attributes:
        first: column of the first text.
        second: column of the second text; None where the task has one text only.
        label: column of the class, or of the classes.
        label_required: the user named the label column, so that its absence is an error.
        classes: columns of 0 and 1, one for each class, in place of `label`.
        separator: what stands between the classes in a cell of `label`; None where a cell is one.
    """

    first: str
    second: str | None
    label: str
    label_required: bool = False
    classes: tuple[str, ...] = ()
    separator: str | None = None

    def to_json(self) -> ColumnFields:
        """The names, by what they hold."""
        found: ColumnFields = {"first": self.first, "second": self.second, "label": self.label}
        if self.classes:
            found["classes"] = list(self.classes)
        if self.separator is not None:
            found["separator"] = self.separator
        return found

    @classmethod
    def from_json(cls, kept: ColumnFields) -> Columns:
        """What `to_json` gave."""
        return cls(
            kept["first"],
            kept.get("second"),
            kept["label"],
            classes=tuple(kept.get("classes", ())),
            separator=kept.get("separator"),
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns of the texts: one, or two."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of the label: one, or one for each class."""
        return self.classes or (self.label,)

    @property
    def spelled_label(self) -> tuple[str, str]:
        """Both sides of the label in `--columns`.

        >>> Columns("text", None, "label", classes=("toxic", "threat")).spelled_label
        ('labels', 'toxic+threat')
        """
        return "labels" if self.classes else "label", BETWEEN_COLUMNS.join(self.labels)


@dataclass(frozen=True)
class Task:
    """A task of rows: classification, scores of pairs, or answers to questions.

    Attributes:
        name: as typed after `--task`.
        first, second: the task's own column names; `second` is None for one text.
        classes: class names by index, in the order of GLUE (Wang et al. 2019, arXiv 1804.07461) as
            published on the hub; empty where the model alone knows them.
        names_integers: integer labels of a file are indices into `classes`. Elsewhere they stay
            index strings for the model's own order, since published orders differ (MNLI's do).
        metric: what a classifier is judged by, as GLUE's leaderboard does; "F1" is of the second
            class.
        published: columns of GLUE's own files where they have other names: texts, then label.
        label: column of the class; of questions that of their gold answers.
    """

    name: str
    first: str
    second: str | None = None
    classes: tuple[str, ...] = ()
    names_integers: bool = False
    metric: str = ACCURACY
    published: tuple[str, ...] = ()
    label: str = "label"

    @property
    def columns(self) -> Columns:
        """The columns under the task's own names."""
        return Columns(self.first, self.second, self.label)

    def columns_in(self, known: Collection[str]) -> Columns:
        """The columns under the names that a source has, the task's own or those of GLUE's files.

        >>> TASKS["stsb"].columns_in(["sentence1", "sentence2", "score"]).label
        'score'
        """
        own = self.columns
        here = {*own.texts, own.label} <= set(known)
        if self.published and set(self.published) <= set(known) and not here:
            *texts, label = self.published
            return replace(own, first=texts[0], second=texts[1], label=label)
        return own


ANSWERS = "answers"  # column of the gold answers (`qdeploy.data.gold_answers`)
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("entailment", "neutral", "contradiction")
_PAIR = ("sentence1", "sentence2")
_QUESTIONS = ("question1", "question2")
_QUORA, _STRINGS = (*_QUESTIONS, "is_duplicate"), ("#1 String", "#2 String", "Quality")

TASKS = {
    task.name: task
    for task in (
        Task("qnli", "question", "sentence", _ENTAILMENT, names_integers=True),
        Task("rte", *_PAIR, _ENTAILMENT),
        Task("wnli", *_PAIR, ("not_entailment", "entailment")),
        Task("mnli", "premise", "hypothesis", _INFERENCE, published=(*_PAIR, "gold_label")),
        Task("mrpc", *_PAIR, ("not_equivalent", "equivalent"), metric=F1, published=_STRINGS),
        Task("qqp", *_QUESTIONS, ("not_duplicate", "duplicate"), metric=F1, published=_QUORA),
        Task("sst2", "sentence", None, ("negative", "positive")),
        Task("cola", "sentence", None, ("unacceptable", "acceptable"), metric=MCC),
        Task("stsb", *_PAIR, published=(*_PAIR, "score")),
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

    The left sides are the task's own names; a name that is not mentioned stays as it is. Columns of
    0 and 1, one for each class, are `labels=toxic+obscene+threat`.

    Raises:
        DataError: a part without `=`, an unknown or repeated left side, an empty right side, one
            column for both texts, a label that is named twice.

    >>> parse_columns("sentence=passage").second
    'passage'
    >>> parse_columns("labels=toxic+threat", "text").classes
    ('toxic', 'threat')
    """
    known = find_task(task)
    fields = {known.first: "first", known.label: "label", "labels": "label"}
    if known.second is not None:
        fields[known.second] = "second"
    changes: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column:
            spelled = ",".join(f"{own}=COLUMN" for own in fields if own != "labels")
            raise DataError(
                f"--columns: '{part.strip()}' is not NAME=COLUMN. Write it like {spelled}."
            )
        field = fields[choose(f"name in --columns for task {task}", name, fields, DataError)]
        if name == "labels" and BETWEEN_COLUMNS in column:
            field = "classes"
        if field in changes:
            raise DataError(f"--columns names '{name}' twice. Name each column once.")
        changes[field] = column
    return _chosen(known, changes)


def _chosen(task: Task, changes: dict[str, str]) -> Columns:
    """The task's columns with those that were named in their place."""
    named = "label" in changes or "classes" in changes
    if "label" in changes and "classes" in changes:
        raise DataError(
            "--columns names label and labels. Name the column of the class with label=COLUMN, or "
            "columns of 0 and 1 with labels=COLUMN+COLUMN."
        )
    classes = _classes(changes.pop("classes", ""))
    chosen = replace(task.columns, **changes, label_required=named, classes=classes)
    if chosen.first == chosen.second:
        raise DataError(
            f"--columns: both texts of task {task.name} would be read from '{chosen.first}'. Name "
            "the column of each, or pass --task text for rows of one text."
        )
    return chosen


def _classes(spelled: str) -> tuple[str, ...]:
    """The columns of `labels=toxic+obscene`; none of "".

    Raises:
        DataError: one without a name, or named twice.
    """
    found = tuple(name.strip() for name in spelled.split(BETWEEN_COLUMNS)) if spelled else ()
    if not all(found) or len(set(found)) < len(found):
        raise DataError(
            f"--columns: 'labels={spelled}' does not name each column once. Write it like "
            "labels=toxic+obscene+threat."
        )
    return found
