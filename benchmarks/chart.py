"""Draw the README's picture from a result of benchmarks/qnli.py.

    python benchmarks/chart.py benchmarks/results/qnli-DATE.json docs/results.svg

Needs the extra `report` (matplotlib).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

BROKEN, MENDED, PLAIN = "#c0392b", "#1e8449", "#5d6d7e"
# Labels of the accuracy table that the picture shows, top to bottom, with their colours.
SHOWN = (
    ("fp32", "FP32", PLAIN),
    ("w8a8, all, symmetric", "W8A8, one scale per tensor", BROKEN),
    ("percentile 99.99, all, symmetric", "percentile 99.99, two-sided", PLAIN),
    ("peg K=2 contiguous, all, symmetric", "PEG K=2, equal groups as they come", PLAIN),
    ("peg K=2 sorted, all, symmetric", "PEG K=2, equal groups, sorted", BROKEN),
    ("peg K=2 optimal, all, symmetric", "PEG K=2, optimal cut", MENDED),
    ("peg, gemm, asymmetric", "peg, the engine to ship", MENDED),
)


def draw(result: dict[str, Any], path: Path) -> None:
    """Accuracy on the left, time of a batch against FP32 on the right."""
    rows = {line["label"]: line for line in result["accuracy"]}
    plt.rcParams |= {"font.family": "sans-serif", "svg.hashsalt": "qdeploy", "font.size": 10}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.6), width_ratios=(2, 1), layout="constrained"
    )
    _accuracy(left, rows)
    _latency(right, [line for line in result["latency"] if line["rows"] == "padded"])
    figure.savefig(path, metadata={"Date": None})


def _accuracy(axes: Any, rows: dict[str, Any]) -> None:
    found = [(rows[key], text, color) for key, text, color in SHOWN]
    values = [100 * row["accuracy"] for row, _, _ in found]
    bars = axes.barh([text for _, text, _ in found], values, color=[color for _, _, color in found])
    axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.axvline(50, color="#999999", linewidth=0.8, linestyle=":")
    n = found[0][0]["n"]
    axes.set_title(f"QNLI accuracy, %, {n:,} rows (dotted: guessing)", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _latency(axes: Any, lines: list[dict[str, Any]]) -> None:
    names = ["FP32", *(line["strategy"] for line in lines)]
    values = [1.0, *(1 / line["speedup"]["ratio"] for line in lines)]
    bars = axes.barh(names, values, color=[PLAIN] * (len(names) - 1) + [MENDED])
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2)
    axes.set_title("time of 8 × 128, FP32 = 1", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    draw(json.loads(args.result.read_text("utf-8")), args.picture)


if __name__ == "__main__":
    main()
