"""A metric with its interval, and what is lost against a baseline: percentiles of a bootstrap."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from qdeploy.schemas.quality import Quality, QualityFigure
from qdeploy.types import Array

_LEVEL = (2.5, 97.5)


class Scored(Protocol):
    """Answers of an engine beside what they should be: what metrics are computed from."""

    def count(self, name: str) -> int:
        """What a bootstrap draws for a metric: rows, sentences, queries, texts."""

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """A metric of all of them, or of those that were drawn; NaN where it has no value."""


def figures_of(
    names: Sequence[str],
    own: Scored,
    base: Scored | None,
    seed: int,
    *,
    draws: int = 400,
    lower_is_better: Collection[str] = (),
) -> list[QualityFigure]:
    """Metrics with their intervals, and what is lost against a baseline on the same draws.

    Args:
        names: of the metrics.
        own, base: of the engine and its baseline; None where there is none.
        seed: of the bootstrap.
        draws: how many.
        lower_is_better: metrics of which less is better.
    """
    found = []
    for name in names:
        drawn = [None, *drawn_of(own.count(name), draws, seed)]
        mine = np.array([own.figure(name, one) for one in drawn])
        theirs = None if base is None else np.array([base.figure(name, one) for one in drawn])
        found.append(figure_of(name, mine, theirs, lower_is_better=name in lower_is_better))
    return found


def quality_of_scores(
    names: Sequence[str], count: int, own: Scored, base: Scored | None, seed: int, *, draws: int
) -> Quality:
    """A head's metrics, of which the first is what it is judged by; arguments of `figures_of`.

    Args:
        count: rows.
    """
    return {
        "metric": names[0],
        "n": count,
        "queries": None,
        "figures": figures_of(names, own, base, seed, draws=draws),
        "kendall": None,
    }


def drawn_of(count: int, draws: int, seed: int) -> list[Array]:
    """The rows of each draw, int64 [count], with replacement."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, count, count) for _ in range(draws)]


def figure_of(
    name: str, own: Array, base: Array | None, *, lower_is_better: bool = False
) -> QualityFigure:
    """A figure of the report; a drop is paired, since both engines have the same draws.

    Args:
        own, base: float64 [1 + draws]: of the rows as they are, then of each draw; NaN where a draw
            has no value.
    """
    found: QualityFigure = {
        "name": name,
        "value": float(own[0]),
        "ci95": _interval(own[1:]),
        "baseline": None,
        "drop": None,
        "drop_ci95": None,
    }
    if base is not None:
        lost = own - base if lower_is_better else base - own
        found["baseline"], found["drop"] = float(base[0]), float(lost[0])
        found["drop_ci95"] = _interval(lost[1:])
    return found


def _interval(drawn: Array) -> list[float]:
    low, high = np.nanpercentile(drawn, _LEVEL)
    return [float(low), float(high)]
