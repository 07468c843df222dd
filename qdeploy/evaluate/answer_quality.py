"""Answers to questions against gold answers, by the rules of SQuAD's official evaluation.

Text is compared without case, punctuation, articles and the number of blanks. An exact match is 0
or 1, F1 is that of the two bags of words, and of several gold answers the best counts (Rajpurkar et
al. 2016, arXiv 1606.05250, §6.1). A question without an answer is right where none was given
(Rajpurkar et al. 2018, arXiv 1806.03822).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.gold_answers import START, TEXT, answers_of
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import ANSWERS
from qdeploy.errors import DataError
from qdeploy.evaluate.bootstrap import quality_of_scores
from qdeploy.schemas.quality import Quality
from qdeploy.types import Array

F1, EXACT, HAS, NO = "answer f1", "exact match", "HasAns f1", "NoAns f1"
_DRAWS = 1000
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class AnswerScores:
    """What is right of each answer.

    Attributes:
        f1, exact: float64 [N], 0 … 1.
        answerable: bool [N], whether there is a gold answer.
    """

    f1: Array
    exact: Array
    answerable: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics; those of the two kinds of questions where both are there."""
        mixed = self.answerable.any() and not self.answerable.all()
        return (F1, EXACT, HAS, NO) if mixed else (F1, EXACT)

    def count(self, name: str) -> int:
        """The questions, of every metric."""
        return len(self.f1)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """A metric of all questions, or of those that were drawn; NaN of none."""
        values = self.exact if name == EXACT else self.f1
        wanted = self.answerable if name == HAS else ~self.answerable
        if drawn is not None:
            values, wanted = values[drawn], wanted[drawn]
        if name in (HAS, NO):
            values = values[wanted]
        return float(values.mean()) if len(values) else float("nan")


def gold_texts(rows: Rows) -> list[list[str]]:
    """The gold answers of each row; none of a question without one.

    Args:
        rows: with labels.

    Raises:
        DataError: labels that are no gold answers.
    """
    assert rows.labels is not None
    found = []
    for row_id, label in zip(rows.row_ids, rows.labels, strict=True):
        try:
            found.append([answer.text for answer in answers_of(label)])
        except ValueError:
            raise DataError(
                f"{rows.source}, row {row_id + 1}: the label is '{label[:40]}', and gold answers "
                f"({ANSWERS}: {TEXT} and {START}) were expected. Pass --task squad, and name "
                f"their column with --columns {ANSWERS}=COLUMN."
            ) from None
    return found


def plain(text: str) -> str:
    """A text as it is compared.

    >>> plain("The  Queen's   (first) name")
    'queens first name'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(gold: str, said: str) -> float:
    """F1 of the words of two texts; of an empty one 1 where both are, as no answer is.

    >>> token_f1("the red river", "river bank")
    0.5
    """
    wanted, own = plain(gold).split(), plain(said).split()
    if not wanted or not own:
        return float(wanted == own)
    common = sum((Counter(wanted) & Counter(own)).values())
    return 2 * common / (len(wanted) + len(own))


def scores_of(gold: Sequence[Sequence[str]], said: Sequence[str]) -> AnswerScores:
    """What is right of each answer; a gold answer of punctuation and articles alone is none.

    Args:
        gold: answers of each question, none of one that has none.
        said: of each question, "" for no answer.
    """
    # if that leaves nothing of any of them, the question has no answer
    wanted = [[text for text in texts if plain(text)] or [""] for texts in gold]
    both = list(zip(wanted, said, strict=True))
    return AnswerScores(
        np.array([max(token_f1(text, own) for text in texts) for texts, own in both]),
        np.array([any(plain(text) == plain(own) for text in texts) for texts, own in both], float),
        np.array([bool(texts) for texts in gold], bool),
    )


def answer_quality(own: AnswerScores, base: AnswerScores | None, seed: int = 0) -> Quality:
    """The metrics with their intervals, by a bootstrap over questions, paired for a drop.

    Args:
        own, base: of the engine and its baseline; None where there is none.
        seed: of the bootstrap.
    """
    return quality_of_scores(own.names, len(own.f1), own, base, seed, draws=_DRAWS)
