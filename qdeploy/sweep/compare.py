"""What a sweep's figures say: the Pareto front, the plan to take.

Engines are compared by `relative`, their time as a part of FP32's in the same alternating rounds:
trials run minutes apart or on different nodes, where milliseconds differ by more than engines do.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.schemas.sweep import Ranked

_CHANCE = 0.05  # McNemar's p above which a drop may be chance


def pareto(entries: Sequence[Ranked]) -> list[str]:
    """Keys of the entries that no other beats: none is at least as good and as fast, and better in
    one of the two; fastest first.

    Args:
        entries: finished trials with `key`, `value` (of the metric) and `relative`.
    """
    front = [
        entry
        for entry in entries
        if not any(_beats(other, entry) for other in entries if other is not entry)
    ]
    return [entry["key"] for entry in sorted(front, key=lambda e: e["relative"])]


def _beats(a: Ranked, b: Ranked) -> bool:
    better = a["value"] > b["value"] or a["relative"] < b["relative"]
    return a["value"] >= b["value"] and a["relative"] <= b["relative"] and better


def suggested(entries: Sequence[Ranked]) -> tuple[str, str] | None:
    """Key of the entry to build where no drop was named, and why; None where there is none.

    It is the fastest whose drop cannot be told from none; else the best.

    Args:
        entries: finished trials with their drops and `constant_predictor` too, without the
            baseline.
    """
    alive = [entry for entry in entries if not entry["constant_predictor"]]
    if not alive:
        return None
    same = [e for e in alive if e["drop"] <= 0 or _may_be_chance(e)]
    if same:
        best = min(same, key=lambda e: e["relative"])
        return best["key"], "the fastest of those whose drop cannot be told from none"
    best = max(alive, key=lambda e: (e["value"], -e["relative"]))
    return best["key"], f"the highest {best['metric']}; each loses some of it"


def _may_be_chance(entry: Ranked) -> bool:
    """By McNemar's test where answers are classes of rows, else by the drop's interval."""
    if entry["mcnemar_p"] is not None:
        return entry["mcnemar_p"] > _CHANCE
    return entry["drop_ci95"] is not None and entry["drop_ci95"][0] <= 0


def cheapest(entries: Sequence[Ranked], max_drop: float) -> str | None:
    """Key of the fastest entry that loses at most `max_drop` points; None where none holds it."""
    holding = [e for e in entries if 100 * e["drop"] <= max_drop + 1e-9]
    return min(holding, key=lambda e: e["relative"])["key"] if holding else None
