"""From the logits of a row to what is said of it: pure functions, one per kind of head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.tokenize import Token
from qdeploy.errors import ModelError, PlanError, VerificationError
from qdeploy.head import MULTI_LABEL, SIGMOID, SOFTMAX, Head
from qdeploy.types import Array

THRESHOLD = 0.5  # of a multi-label classifier: where a sigmoid says "rather yes"


@dataclass(frozen=True)
class Prediction:
    """What an engine says of one text, or of one pair.

    Attributes:
        label: name of the class with the highest score; of a regression with several outputs, of
            the largest.
        score: its score: a probability, 0 … 1, or the value itself of a regression.
        scores: score of every class, by name, in the model's order. Those of a classifier with one
            class a row sum to 1; those of a multi-label classifier are independent.
        labels: of a multi-label classifier the classes whose score is above the threshold, in the
            model's order, maybe none; otherwise `label` alone.
    """

    label: str
    score: float
    scores: dict[str, float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entity:
    """One token of a text, and its class.

    Attributes:
        label: name of the likeliest class.
        score: its probability, 0 … 1.
        word: the token as the tokenizer writes it; of an unknown one the text itself.
        index: position among the row's tokens, special ones counted.
        start, end: characters of the text that it stands for.
    """

    label: str
    score: float
    word: str
    index: int
    start: int
    end: int


@dataclass(frozen=True)
class Ranked:
    """One text of a ranking.

    Attributes:
        index: its place among the texts that were given.
        score: as of `Prediction`.
        text: itself.
    """

    index: int
    score: float
    text: str


def predictions(logits: Array, head: Head, function: str, threshold: float) -> list[Prediction]:
    """What the logits of a sequence classifier say.

    Args:
        logits: FP32 [N, classes].
        head: for the names and the kind.
        function: of `qdeploy.head.FUNCTIONS`.
        threshold: of a multi-label classifier: the probability above which a class is present.
    """
    present = sigmoid(logits) > threshold  # whatever function makes the scores
    rows = zip(scores_of(logits, function), present, strict=True)
    return [_prediction(scores, head, above) for scores, above in rows]


def threshold_of(head: Head, asked: float | None) -> float:
    """The probability above which a class is present.

    Raises:
        PlanError: one was asked for, and the head has none, or it is no probability.
    """
    if asked is None:
        return THRESHOLD
    if head.problem_type != MULTI_LABEL:
        raise PlanError(
            f"threshold is for multi-label classifiers, and this is a {head.description}. "
            "Leave it out, and compare Prediction.score."
        )
    number = isinstance(asked, int | float | np.number) and not isinstance(asked, bool)
    if not number or not 0 <= asked <= 1:
        raise PlanError(f"threshold is {asked}, and 0 to 1 was expected: it is a probability.")
    return asked


def entities(
    text: str,
    tokens: Sequence[Token | None],
    logits: Array,
    labels: Sequence[str],
    unknown_id: int | None,
) -> list[Entity]:
    """What the logits of a token classifier say of every token of a text that is not a special one.

    Args:
        text: of the row.
        tokens: of the row; None for special ones.
        logits: FP32 [S, classes].
        labels: class names by index.
        unknown_id: id of the token for what the vocabulary lacks: its word is the text itself.

    Raises:
        VerificationError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise VerificationError(
            "The engine gives logits that are not finite. The engine is broken: build it "
            "again, with other options if that repeats."
        )
    found = []
    for at, (token, scores) in enumerate(zip(tokens, softmax(logits), strict=True)):
        if token is None:
            continue
        start, end = token.start, token.end
        word = text[start:end] if token.id == unknown_id else token.text
        best = int(np.argmax(scores))
        found.append(Entity(labels[best], float(scores[best]), word, at, start, end))
    return found


def check_classes(logits: Array, labels: Sequence[str]) -> None:
    """Refuse FP32 [..., classes] logits of more or fewer classes than have a name.

    Raises:
        ModelError: with both numbers.
    """
    found = logits.shape[-1]
    if found != len(labels):
        raise ModelError(
            f"The engine gives {found} logits for a class, and its manifest names "
            f"{len(labels)} classes ({', '.join(labels)}). Set id2label in the "
            "checkpoint's config.json, export again and build; logits() works as it is."
        )


def scores_of(logits: Array, function: str) -> Array:
    """Scores of FP32 [N, classes] logits, FP64 [N, classes]."""
    if function == SOFTMAX:
        return softmax(logits)
    return sigmoid(logits) if function == SIGMOID else logits.astype(np.float64)


def softmax(logits: Array) -> Array:
    """Probabilities of FP32 [..., classes] logits, FP64 [..., classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Array) -> Array:
    """1 / (1 + e^-x) of FP32 logits of any shape, FP64; without overflow far from 0."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    found: Array = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return found


def _prediction(scores: Array, head: Head, present: Array) -> Prediction:
    best = head.labels[int(np.argmax(scores))]
    named = dict(zip(head.labels, scores.tolist(), strict=True))
    labels: tuple[str, ...] = (best,)
    if head.problem_type == MULTI_LABEL:
        labels = tuple(name for name, above in zip(head.labels, present, strict=True) if above)
    return Prediction(best, named[best], named, labels)
