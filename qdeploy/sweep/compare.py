"""What a sweep's figures say: the Pareto front, the plan to take.

Engines are compared by `relative`, their time as a part of FP32's in the same alternating rounds:
trials run minutes apart or on different nodes, where milliseconds differ by more than engines do.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.schemas.quality import ACCURACY
from qdeploy.schemas.sweep import Ranked, loss_of, metric_of, score_of

_CHANCE = 0.05  # McNemar's p above which a drop may be chance


def pareto(entries: Sequence[Ranked]) -> list[str]:
    """Keys of the entries that no other beats: none is at least as accurate and as fast, and
    better in one of the two; fastest first.

    Args:
        entries: finished trials with `key`, `accuracy` (0 to 1) and `relative`; the figure
            `judging` is in place of accuracy where they have it.
    """
    front = [
        entry
        for entry in entries
        if not any(_beats(other, entry) for other in entries if other is not entry)
    ]
    return [entry["key"] for entry in sorted(front, key=lambda e: e["relative"])]


def _beats(a: Ranked, b: Ranked) -> bool:
    better = score_of(a) > score_of(b) or a["relative"] < b["relative"]
    return score_of(a) >= score_of(b) and a["relative"] <= b["relative"] and better


def _may_be_chance(entry: Ranked) -> bool:
    """Whether what is lost cannot be told from nothing."""
    judging = entry.get("judging")
    if judging is None:
        return entry["drop"] <= 0 or entry["mcnemar_p"] > _CHANCE
    return judging["drop_ci95"][0] <= 0


def suggested(entries: Sequence[Ranked]) -> tuple[str, str] | None:
    """Key of the entry to build where no drop was named, and why; None where there is none.

    It is the fastest whose drop cannot be told from none; else the most accurate.

    Args:
        entries: finished trials with `drop`, `mcnemar_p` and `constant_predictor` too, without the
            baseline.
    """
    alive = [entry for entry in entries if not entry["constant_predictor"]]
    if not alive:
        return None
    same = [e for e in alive if _may_be_chance(e)]
    if same:
        best = min(same, key=lambda e: e["relative"])
        return best["key"], "the fastest of those whose drop cannot be told from none"
    best = max(alive, key=lambda e: (score_of(e), -e["relative"]))
    if (metric := metric_of(alive)) != ACCURACY:
        return best["key"], f"the highest {metric}; each loses some of it"
    return best["key"], "the most accurate; each loses accuracy"


def cheapest(entries: Sequence[Ranked], max_drop: float) -> str | None:
    """Key of the fastest entry that loses at most `max_drop` points; None where none holds it."""
    holding = [e for e in entries if 100 * loss_of(e) <= max_drop + 1e-9]
    return min(holding, key=lambda e: e["relative"])["key"] if holding else None
