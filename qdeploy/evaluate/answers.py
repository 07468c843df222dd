"""From the logits of a row to what is said of it: pure functions, one per kind of head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
