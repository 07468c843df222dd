"""Statistics of an evaluation: pure functions of predictions and logits."""

from __future__ import annotations

import math

import numpy as np

from qdeploy.types import Array

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def accuracy(predicted: Array, gold: Array) -> float:
    """Share of rows whose class is right.

    Args:
        predicted, gold: int64 [N] class indices, N ≥ 1.

    >>> accuracy(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float(np.mean(predicted == gold))


def wilson_interval(right: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Interval of a share by Wilson's score (1927); 95 % by default.

    Args:
        right: rows that are right, 0 … n.
        n: rows, at least 1.
        z: normal quantile of the wanted level.

    >>> [round(x, 4) for x in wilson_interval(0, 10)]
    [0.0, 0.2775]
    """
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # rounding must not push the ends past the share at 0 and n
    return max(0.0, min(low, share)), min(1.0, max(high, share))


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
