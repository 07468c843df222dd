"""Tables of the traffic that benchmarks/peers.py measured, printed by benchmarks/peers_table.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

KINDS = ("1", "8", "32", "offline")
NAMES = {"1": "1 row", "8": "8 rows", "32": "32 rows", "offline": "32 rows, sorted by length"}
_ORT, _OV = "qdeploy-peg-ort-cpu", "qdeploy-peg-openvino"
_NNCF = ("openvino-nncf", "openvino-nncf-bf16")
# Goals by section: text, dividend, divisors of which the fastest counts, kind, limit.
GOALS: dict[str, tuple[tuple[str, str, tuple[str, ...], str, float], ...]] = {
    "base": (
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "8", 0.55),
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "32", 0.42),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "8", 0.62),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "32", 0.50),
        ("peg on ort-cpu ÷ ORT FP32", _ORT, ("ort-fp32",), "8", 0.16),
        ("peg on openvino ÷ ORT FP32", _OV, ("ort-fp32",), "8", 0.11),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "offline", 0.95),
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "offline", 0.85),
        ("peg on ort-cpu ÷ itself with padding", _ORT, (f"{_ORT}-padded",), "1", 1.0),
        ("peg on openvino ÷ itself with padding", _OV, (f"{_OV}-padded",), "1", 1.0),
    ),
    "embedded": (
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "8", 0.55),
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "32", 0.42),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "8", 0.70),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "32", 0.58),
        ("peg on openvino ÷ NNCF", _OV, _NNCF, "offline", 0.95),
        ("peg on ort-cpu ÷ ORT dynamic", _ORT, ("ort-dynamic",), "offline", 0.85),
        ("peg on ort-cpu ÷ itself with padding", _ORT, (f"{_ORT}-padded",), "1", 1.0),
        ("peg on openvino ÷ itself with padding", _OV, (f"{_OV}-padded",), "1", 1.0),
    ),
}


def traffic_table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """p50 of a batch in ms, and rows a second: medians over the runs."""
    yield "| engine | " + " | ".join(NAMES[kind] for kind in KINDS) + " |"
    yield "|---" * (len(KINDS) + 1) + "|"
    names = sorted(runs[0]["8"], key=lambda name: -median(runs, "8", name, "rows_per_s"))
    for name in names:
        cells = []
        for kind in KINDS:
            p50, rate = (median(runs, kind, name, what) for what in ("p50", "rows_per_s"))
            cells.append(f"{p50:.1f} ({rate:.0f})")
        yield f"| {name} | " + " | ".join(cells) + " |"
    padding = " | ".join(f"{runs[0]['padding'][kind]:.0%}" for kind in KINDS)
    yield f"| padding | {padding} |"


def traffic_goals(section: str, runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Ratios of the time of all batches, each at its median: median and range over the runs."""
    yield "| ratio | traffic | goal | measured | over the runs | |"
    yield "|---|---|---|---|---|---|"
    for text, above, divisors, kind, limit in GOALS[section]:
        known = [name for name in divisors if name in runs[0][kind]]
        if above not in runs[0][kind] or not known:
            continue
        ratios = []
        for run in runs:
            fastest = max(run[kind][name]["rows_per_s"] for name in known)
            ratios.append(fastest / run[kind][above]["rows_per_s"])
        ratio = statistics.median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        verdict = "met" if ratio <= limit else "missed"
        yield f"| {text} | {NAMES[kind]} | ≤ {limit} | {ratio:.2f} | {spread} | {verdict} |"


def median(runs: Sequence[dict[str, Any]], kind: str, name: str, what: str) -> float:
    """Over the runs, of one figure of an engine."""
    return statistics.median(float(run[kind][name][what]) for run in runs)
