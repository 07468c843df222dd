"""Figures of a multi-label classifier: F1 over all labels and by class, precision of rankings.

They are scikit-learn's: `f1_score` with `average="micro"`, and with `average="macro"` and
`zero_division=nan`, which leaves out classes that nobody named; `average_precision_score` of each
class that has a row; `accuracy_score`. A bootstrap over rows weighs each row by how often it was
drawn, so that a class is ranked once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qdeploy.evaluate.answers import sigmoid
from qdeploy.evaluate.bootstrap import figure_of
from qdeploy.schemas.quality import Quality
from qdeploy.types import Array

MICRO_F1, MACRO_F1 = "micro F1", "macro F1"
PRECISION, SUBSETS = "mean average precision", "subset accuracy"
FIGURES = (MICRO_F1, MACRO_F1, PRECISION, SUBSETS)
_DRAWS = 400
_HELD = 1 << 23  # weights that are held at once, 32 MB


@dataclass(frozen=True)
class LabelSets:
    """What an engine says of each class of each row.

    Attributes:
        gold: bool [N, C], the classes that rows have.
        logits: float32 [N, C], in the same order.
        threshold: probability above which a class is said to be there.
    """

    gold: Array
    logits: Array
    threshold: float

    @cached_property
    def said(self) -> Array:
        """Bool [N, C]."""
        above: Array = sigmoid(self.logits) > self.threshold
        return above

    @cached_property
    def counts(self) -> Array:
        """Float32 [N, 2C + 1]: classes that are right, twice; that are said plus that are there;
        and whether the whole row is right."""
        right = 2 * (self.said & self.gold)
        either = self.said.astype(np.int8) + self.gold
        whole = (self.said == self.gold).all(axis=1, keepdims=True)
        return np.concatenate([right, either, whole], axis=1).astype(np.float32)

    def count(self, name: str) -> int:
        """The rows, of every metric."""
        return len(self.gold)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """A metric of all rows, or of those that were drawn."""
        rows = len(self.gold)
        times = np.ones(rows) if drawn is None else np.bincount(drawn, minlength=rows).astype(float)
        return float(self.figures(times[:, None])[FIGURES.index(name), 0])

    def figures(self, weights: Array) -> Array:
        """All of `FIGURES`, float64 [4, R], NaN where one has no value.

        Args:
            weights: float [N, R], how often each of R draws has a row.
        """
        classes = self.gold.shape[1]
        sums = (self.counts.T.astype(weights.dtype) @ weights).astype(np.float64)
        right, either = sums[:classes], sums[classes:-1]
        by_class = [
            average_precision(self.gold[:, at], self.logits[:, at], weights)
            for at in range(classes)
        ]
        return np.stack(
            [
                _share(right.sum(axis=0), either.sum(axis=0)),
                _mean(_share(right, either)),
                _mean(np.stack(by_class)),
                sums[-1] / weights.sum(axis=0, dtype=np.float64),
            ]
        )


def average_precision(gold: Array, logits: Array, weights: Array) -> Array:
    """The precision at each row of a class, averaged: Σ (Rₙ − Rₙ₋₁) Pₙ over distinct logits.

    Args:
        gold: bool [N].
        logits: float [N].
        weights: float [N, R].

    Returns:
        float64 [R]; NaN where no row of the class has a weight.
    """
    order = np.argsort(-logits, kind="stable")
    last = np.flatnonzero(np.append(np.diff(logits[order]) != 0, True))  # of equal logits
    level = np.repeat(np.arange(len(last)), np.diff(last, prepend=-1))
    hits = np.flatnonzero(gold[order])
    if not len(hits):
        return np.full(weights.shape[1], np.nan)
    # precision counts at levels with a hit alone: rows between two of them are summed at once
    levels, firsts = np.unique(level[hits], return_index=True)
    ends = last[levels] + 1
    starts = np.append(0, ends[:-1])
    above = np.add.reduceat(weights[order[: ends[-1]]], starts, axis=0).cumsum(axis=0)
    found = np.add.reduceat(weights[order[hits]], firsts, axis=0).astype(np.float64)
    right = found.cumsum(axis=0)
    return _share((found * np.nan_to_num(_share(right, above))).sum(axis=0), right[-1])


def multilabel_quality(own: LabelSets, base: LabelSets | None, seed: int = 0) -> Quality:
    """The metrics with their intervals, and what is lost against a baseline on the same rows.

    Args:
        own, base: of the engine and its baseline; None where there is none.
        seed: of the bootstrap.
    """
    both = [own] if base is None else [own, base]
    drawn = [[one.figures(weights) for one in both] for weights in _draws(len(own.gold), seed)]
    values = [np.concatenate(found, axis=1) for found in zip(*drawn, strict=True)]
    figures = [
        figure_of(name, values[0][at], None if base is None else values[1][at])
        for at, name in enumerate(FIGURES)
    ]
    return {
        "metric": MICRO_F1,
        "n": len(own.gold),
        "queries": None,
        "figures": figures,
        "kendall": None,
        "threshold": own.threshold,
    }


def _draws(rows: int, seed: int) -> Iterator[Array]:
    """Weights [rows, draws]: of the rows as they are, then of draws, some at a time."""
    yield np.ones((rows, 1))
    rng, size = np.random.default_rng(seed), max(1, _HELD // rows)
    for start in range(0, _DRAWS, size):
        counts = [
            np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float32)
            for _ in range(min(size, _DRAWS - start))
        ]
        yield np.ascontiguousarray(np.array(counts).T)


def _share(part: Array, whole: Array) -> Array:
    """NaN of nothing."""
    found: Array = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _mean(values: Array) -> Array:
    """Over classes [C, R], of those that have a value."""
    known = np.isfinite(values)
    return _share(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))
