"""What `--strategy auto` and `--target auto` tried, and which they kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qdeploy import figures
from qdeploy.cli import tables

if TYPE_CHECKING:
    from qdeploy.schemas.autotune import StrategySearch, TargetChoice
    from qdeploy.schemas.manifest import LeftOutFields


def search(found: StrategySearch) -> None:
    """What `--strategy auto` tried: * stands at the plan that was kept."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    gold = "labels" if found["labelled"] else "FP32's answers"
    metric = found.get("metric", "accuracy")
    unit = "points" if metric == "accuracy" else "hundredths"
    title = (
        f"{metric} of {found['rows']} held-out rows against {gold}, {found['max_drop']:g} {unit} "
        "allowed"
    )
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for name in ("plan", "drop", "SQNR dB", "p50 ms", "time / fastest", "holds"):
        table.add_column(name, justify="left" if name == "plan" else "right", overflow="fold")
    for tried in sorted(found["tried"], key=lambda t: float(t["p50_ms"])):
        kept = tried["options"] == found["chosen"]
        table.add_row(
            ("* " if kept else "  ") + plan_name(tried["options"]),
            figures.points(tried["expected_drop"] / 100),
            figures.decibels(tried["sqnr_db"]),
            figures.milliseconds(tried["p50_ms"]),
            _interval(tried["relative"]),
            "yes" if tried["holds"] else "no",
        )
    base = found["fp32"]
    table.add_row(
        "  fp32", "", "", figures.milliseconds(base["p50_ms"]), _interval(base["relative"]), ""
    )
    tables.show(table)
    batch, tokens = found["shape"]
    tables.wrapped(
        f"Timed in one run of alternating rounds, {batch} rows of {tokens} tokens, with 95 % "
        f"intervals. drop: {unit} of {metric} to expect. Kept (*) is the highest SQNR of the "
        "outputs among the plans that hold and are within 3 % of the fastest of them, or cannot be "
        "told from it.",
        hanging="",
    )


def plan_name(options: Mapping[str, object]) -> str:
    """What `auto` tried, in a few words: `peg, 27 dB`; `peg, 30 dB, 2 in float`."""
    words = [str(options["strategy"])]
    for name, value in options.items():
        if name == "noise_target":
            words.append(f"{value:g} dB")
        elif name == "float_sites" and isinstance(value, Sequence):
            words.append(f"{len(value)} in float")
        elif name != "strategy":
            words.append(f"{name.replace('_', '-')} {value}" if value == "none" else str(value))
    return ", ".join(words)


def _interval(relative: list[float]) -> str:
    """`1.02 (1.01–1.03)`."""
    ratio, low, high = relative
    return f"{figures.factor(ratio)} ({figures.factor(low)}–{figures.factor(high)})"


def choice(auto: TargetChoice) -> str:
    """Which targets `--target auto` timed."""
    batch, tokens = auto["shape"]
    times = ", ".join(
        f"{name} {figures.milliseconds(ms)} ms" for name, ms in auto["p50_ms"].items()
    )
    skipped = ", ".join(auto["skipped"])
    return f"fastest of {times} at {batch} × {tokens}" + (f"; not {skipped}" if skipped else "")


def left_out(found: LeftOutFields) -> str:
    """What an engine does not compute; empty where it computes everything."""
    parts = []
    if found["padding_removed"]:
        parts.append("padding")
    if found["unread_nodes"]:
        parts.append(
            "in the last layer, queries and feed-forward of all but each row's first token"
        )
    text = f"not computed: {'; '.join(parts)}" if parts else ""
    if not found["padding_removed"] and found["reason"]:
        text += f"{'; ' if text else ''}padding is computed: {found['reason']}"
    return text
