"""`qnli-mini`: pairs in QNLI's form from short paragraphs written for this project."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qdeploy.data.readers import Table, read_tsv
from qdeploy.errors import DataError

NAME = "qnli-mini"
PATH = Path(__file__).with_name("qnli_mini.tsv")
_COLUMNS = ("subject", "sentence", "question")
_EVERY = 4  # one paragraph in four is for calibration


@dataclass(frozen=True)
class Paragraph:
    """Consecutive sentences on one subject, each with a question that it alone answers."""

    subject: str
    sentences: tuple[str, ...]
    questions: tuple[str, ...]


def read_paragraphs(path: Path = PATH) -> list[Paragraph]:
    """The paragraphs of the embedded file, in its order.

    Raises:
        DataError: other columns, or a paragraph of one sentence (it has no negative).
    """
    table = read_tsv(path)
    if table.columns != _COLUMNS:
        raise DataError(f"{path}: columns {table.columns}, and {_COLUMNS} were expected.")
    found = []
    records = (values for _, values in table.read(_COLUMNS))
    grouped = itertools.groupby(records, lambda values: values["subject"])
    for subject, group in grouped:
        rows = list(group)
        if len(rows) < 2:
            raise DataError(f"{path}: the paragraph '{subject}' has one sentence only.")
        sentences, questions = zip(*((r["sentence"], r["question"]) for r in rows), strict=True)
        found.append(Paragraph(subject, sentences, questions))
    return found


def pairs(paragraph: Paragraph, shift: int) -> Iterator[tuple[str, str, str]]:
    """Question, sentence and label: each question with its own sentence and with one other.

    The other is `1 + shift mod (n - 1)` places on, round the paragraph: so every sentence stands
    in exactly one positive and one negative pair, and neither text alone betrays the label.
    """
    count = len(paragraph.sentences)
    step = 1 + shift % (count - 1)
    for at, question in enumerate(paragraph.questions):
        yield question, paragraph.sentences[at], "entailment"
        yield question, paragraph.sentences[(at + step) % count], "not_entailment"


def read_mini(split: str, path: Path = PATH) -> Table:
    """The pairs of one split; every fourth paragraph is for calibration, the others are not.

    The order is mixed by a hash of the pair, so that a first N is a fair sample.

    Args:
        split: "evaluation" or "calibration".
    """
    rows = [
        pair
        for at, paragraph in enumerate(read_paragraphs(path))
        if (at % _EVERY == _EVERY - 1) == (split == "calibration")
        for pair in pairs(paragraph, at)
    ]
    rows.sort(key=lambda pair: hashlib.sha256("\x1f".join(pair[:2]).encode()).digest())
    columns = ("question", "sentence", "label")
    records = [
        (f"row {at}", dict(zip(columns, pair, strict=True))) for at, pair in enumerate(rows, 1)
    ]
    return Table(NAME, columns, lambda _: iter(records))
