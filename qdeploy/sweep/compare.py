"""What a sweep's figures say: the Pareto front, the plan to take.

Engines are compared by `relative`, their time as a part of FP32's in the same alternating rounds:
trials run minutes apart or on different nodes, where milliseconds differ by more than engines do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]


def pareto(entries: Sequence[Entry]) -> list[str]:
    """Keys of the entries that no other beats: none is at least as accurate and as fast, and
    better in one of the two; fastest first.

    Args:
        entries: finished trials with `key`, `accuracy` (0 to 1) and `relative`.
    """
    front = [
        entry
        for entry in entries
        if not any(_beats(other, entry) for other in entries if other is not entry)
    ]
    return [str(entry["key"]) for entry in sorted(front, key=lambda e: float(e["relative"]))]


def _beats(a: Entry, b: Entry) -> bool:
    better = a["accuracy"] > b["accuracy"] or a["relative"] < b["relative"]
    return bool(a["accuracy"] >= b["accuracy"] and a["relative"] <= b["relative"] and better)


def cheapest(entries: Sequence[Entry], max_drop: float) -> str | None:
    """Key of the fastest entry that loses at most `max_drop` points; None where none holds it."""
    holding = [e for e in entries if 100 * e["drop"] <= max_drop + 1e-9]
    return str(min(holding, key=lambda e: float(e["relative"]))["key"]) if holding else None
