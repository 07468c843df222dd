"""Statistics of an evaluation: pure functions of predictions and logits."""

from __future__ import annotations

import numpy as np

from qdeploy.intervals import wilson_interval as wilson_interval
from qdeploy.types import Array


def accuracy(predicted: Array, gold: Array) -> float:
    """Share of rows whose class is right.

    Args:
        predicted, gold: int64 [N] class indices, N ≥ 1.

    >>> accuracy(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float(np.mean(predicted == gold))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test (binomial, p = ½ on the discordant rows).

    Args:
        only_first: rows that the first model alone has right.
        only_second: rows that the second model alone has right.

    Returns:
        min(1, 2 · P(X ≤ min)), with X ~ Binomial(sum, ½), in exact integer arithmetic.

    >>> mcnemar_p(1, 9)
    0.021484375
    """
    n = only_first + only_second
    term = tail = 1
    for i in range(min(only_first, only_second)):
        term = term * (n - i) // (i + 1)  # C(n, i + 1); the division leaves no remainder
        tail += term
    p: float = 2 * tail / 2**n  # int / int rounds once, however long the integers
    return min(1.0, p)


def mcnemar_of(first: Array, second: Array, gold: Array) -> float:
    """McNemar's exact p of two models' predictions, int64 [N] each."""
    first_right, second_right = first == gold, second == gold
    return mcnemar_p(
        int(np.sum(first_right & ~second_right)), int(np.sum(second_right & ~first_right))
    )


def flipped_rows(first: Array, second: Array) -> int:
    """How many rows get another class, int64 [N] each."""
    return int(np.sum(first != second))


def agreement(first: Array, second: Array) -> float:
    """Share of rows that get the same class, int64 [N] each."""
    return 1.0 - flipped_rows(first, second) / len(first)


def largest_difference(reference: Array, other: Array) -> float:
    """Largest |reference - other| of two arrays of logits, float32 of one shape."""
    return float(np.max(np.abs(reference.astype(np.float64) - other)))


def constant_predictor(predicted: Array) -> bool:
    """Whether two rows or more all get the same class, int64 [N]."""
    return len(predicted) > 1 and bool(np.all(predicted == predicted[0]))
