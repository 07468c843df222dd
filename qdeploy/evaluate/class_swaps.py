"""Classes in a wrong order, found by likelihood: the labels fit other columns of the logits.

A model whose `id2label` is swapped, or a file whose integers count another way, gives an accuracy
that looks like a bad model's: of three MNLI classes two may be exchanged, and a third of the rows
is still right. The logits tell: another order of the columns makes the labels far more likely.

1. The order of greatest likelihood is chosen: the assignment of classes to columns with the
   greatest sum of log probabilities, each column less its own mean, so that a class which the
   model prefers for every row counts for nothing.
2. That order is a product of cycles, and each is tested by itself, among the rows with a label of
   the cycle: the gain in log likelihood against that under shuffled labels (a permutation test,
   exact for a model whose logits say nothing of these labels).
3. A third of the rows chooses and the others test. Where a cycle has few rows, all of them choose
   and test, and p is multiplied by the number of cycles that could have been chosen.
4. A cycle is believed with p ≤ 0.0001 and where it is no small matter: the rows that gain are more
   by a fifth of all than under shuffled labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.evaluate.assignment import best_assignment
from qdeploy.types import Array

_CHANCE = 1e-4  # p of a cycle
_AT_ONCE = 1000  # shuffles
_EFFECT = 0.2  # of the rows, beyond what shuffled labels give
_MOST_ROWS = 200  # of a test: more make it slower and no surer
_CHOOSING = 3  # one row of so many of each class chooses the order
# Rows of a cycle, and cycles to choose from, up to which all rows choose and test: more rows do not
# need it, and more cycles need more shuffles than are worth it.
_FEW_ROWS, _FEW_CYCLES = 60, 60
_SEED = 0  # of the split and of the shuffles, so that a report repeats


@dataclass(frozen=True)
class SwappedOrder:
    """A class order that fits the labels far better than the one in use.

    Attributes:
        names: class names by index in the order that fits.
        accuracy: with that order, 0 … 1.
        answered: per class that moves, its name in the labels and the name the model gives it.
    """

    names: tuple[str, ...]
    accuracy: float
    answered: tuple[tuple[str, str], ...]


def swapped_order(logits: Array, gold: Array, names: Sequence[str]) -> SwappedOrder | None:
    """The order of classes that makes the labels far more likely, or None.

    Args:
        logits: float [N, C].
        gold: int64 [N] class indices.
        names: class names by index [C].
    """
    scores = _log_probabilities(logits)
    kept = np.arange(len(names))
    for cycle, order in _believed_cycles(scores, gold):
        if np.array_equal(kept[cycle], cycle):  # else found by the other way too
            kept[cycle] = order
    if np.array_equal(kept, np.arange(len(names))):
        return None
    by_column = list(names)
    for at, column in enumerate(kept.tolist()):
        by_column[column] = names[at]
    return SwappedOrder(
        tuple(by_column),
        float(np.mean(logits.argmax(axis=1) == kept[gold])),
        tuple((names[at], names[to]) for at, to in enumerate(kept.tolist()) if at != to),
    )


def _log_probabilities(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _believed_cycles(scores: Array, gold: Array) -> Iterator[tuple[Array, Array]]:
    """Cycles that are no chance, by either way of choosing and testing."""
    for cycle, order in _cycles(_likeliest(scores, gold)):
        choices = _choices(scores.shape[1], len(cycle))
        few = int(np.isin(gold, cycle).sum()) <= _FEW_ROWS
        if few and choices <= _FEW_CYCLES and _believed(scores, gold, cycle, order, choices):
            yield cycle, order
    chosen = _choosing(gold)
    for cycle, order in _cycles(_likeliest(scores[chosen], gold[chosen])):
        if _believed(scores[~chosen], gold[~chosen], cycle, order, 1):
            yield cycle, order


def _choices(classes: int, length: int) -> int:
    """Cycles of a length among so many classes, times 2 for each step of the length.

    Half of what chance is allowed thus goes to pairs, a quarter to cycles of three, and so on.
    """
    return math.perm(classes, length) // length << (length - 1)


def _choosing(gold: Array) -> Array:
    """Which rows choose an order, bool [N]: a third of every class."""
    rng = np.random.default_rng(_SEED)
    found = np.zeros(len(gold), bool)
    for label in np.unique(gold):
        own = rng.permutation(np.flatnonzero(gold == label))
        found[own[::_CHOOSING]] = True
    return found


def _likeliest(scores: Array, gold: Array) -> Array:
    """The column of each class, int64 [C], where the labels are likeliest."""
    classes = scores.shape[1]
    evidence = scores - scores.mean(axis=0)
    gains = np.zeros((classes, classes))
    for label in np.unique(gold):
        gains[label] = evidence[gold == label].sum(axis=0)
    # classes without rows, and ties, stay where they are
    gains[np.diag_indices(classes)] += 1e-9 * (1 + np.abs(gains).max())
    return best_assignment(gains)


def _cycles(order: Array) -> Iterator[tuple[Array, Array]]:
    """Classes that change places among themselves, and their columns; each set by itself."""
    left = set(np.flatnonzero(order != np.arange(len(order))).tolist())
    while left:
        cycle = [left.pop()]
        while (following := int(order[cycle[-1]])) in left:
            left.remove(following)
            cycle.append(following)
        yield np.array(cycle), order[cycle]


def _believed(scores: Array, gold: Array, cycle: Array, order: Array, choices: int) -> bool:
    """Whether the labels of a cycle fit its other columns beyond chance, and by how much.

    Args:
        cycle, order: its classes, and their columns.
        choices: cycles that could have been chosen on these rows.
    """
    rows = np.flatnonzero(np.isin(gold, cycle))
    if len(np.unique(gold[rows])) < 2:
        return False  # one class alone: the model's preference, or a swap, and nothing tells
    place = {label: at for at, label in enumerate(cycle.tolist())}
    labels = np.array([place[label] for label in gold[rows].tolist()])
    gains = scores[np.ix_(rows, order)] - scores[np.ix_(rows, cycle)]
    gains -= gains.mean(axis=0)
    if _effect(gains, labels) < _EFFECT:
        return False
    rng = np.random.default_rng(_SEED)
    if len(rows) > _MOST_ROWS:
        few = rng.choice(len(rows), _MOST_ROWS, replace=False)
        gains, labels = gains[few], labels[few]
    return _beyond_chance(gains, labels, _CHANCE / choices, rng)


def _effect(gains: Array, labels: Array) -> float:
    """Rows that gain less rows that lose, as a share of all, beyond that of shuffled labels."""
    signs = np.sign(gains)
    shares = np.bincount(labels, minlength=gains.shape[1]) / len(labels)
    found = signs[np.arange(len(labels)), labels].mean()
    return float(found - signs.mean(axis=0) @ shares)


def _beyond_chance(gains: Array, labels: Array, p: float, rng: np.random.Generator) -> bool:
    """Whether shuffled labels gain as much no more often than p: a permutation test.

    Args:
        gains: FP64 [N, k], what a row gains where it has each of the labels.
        labels: int [N], 0 … k - 1.
        p: allowed; 2 / p shuffles are made, of which one may gain as much.
    """
    rows = np.arange(len(labels))
    rounding = 1e-9 * float(np.abs(gains).sum())
    found = float(gains[rows, labels].sum()) - rounding
    if found <= rounding:
        return False
    reached = done = 0
    while done < 2 / p:
        shuffled = rng.permuted(np.tile(labels, (_AT_ONCE, 1)), axis=1)
        reached += int(np.sum(gains[rows, shuffled].sum(axis=1) >= found))
        if reached > 1:
            return False
        done += _AT_ONCE
    return True
