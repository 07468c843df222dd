"""Draw the README's first picture from results of benchmarks/peers.py: the time of traffic.

    python benchmarks/traffic_chart.py docs/traffic.svg RESULT.json [RESULT.json]

One panel for each result. Needs the extra `report` (matplotlib).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from peers_traffic_table import median  # benchmarks/peers_traffic_table.py

matplotlib.use("svg")
import matplotlib.pyplot as plt

PEERS, OURS = "#5d6d7e", "#1e8449"
# Engines, of which the fastest counts; words, and colour.
SHOWN = (
    (("ort-fp32",), "ONNX Runtime FP32", PEERS),
    (("openvino-nncf", "openvino-nncf-bf16"), "NNCF on OpenVINO", PEERS),
    (("ort-dynamic",), "ONNX Runtime dynamic INT8", PEERS),
    (("qdeploy-peg-openvino", "qdeploy-peg-openvino-bf16"), "qdeploy peg, openvino", OURS),
    (("qdeploy-peg-ort-cpu",), "qdeploy peg, ort-cpu", OURS),
)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Rows a second of the embedded model, 8 rows at a time."""
    plt.rcParams |= {"font.family": "sans-serif", "svg.hashsalt": "qdeploy", "font.size": 10}
    figure, panels = plt.subplots(
        1, len(results), figsize=(11, 2.6), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, result in zip(panels[0], results, strict=True):
        runs = result["embedded"]["traffic"]
        values = [
            max(median(runs, "8", name, "rows_per_s") for name in names if name in runs[0]["8"])
            for names, _, _ in SHOWN
        ]
        words, colors = [text for _, text, _ in SHOWN], [color for _, _, color in SHOWN]
        bars = axes.barh(words, values, color=colors)
        axes.bar_label(bars, [f"{value:.0f}" for value in values], padding=3)
        axes.set_xlim(0, 1.15 * max(values))
        axes.set_title(result["machine"], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("rows of QNLI a second, 8 at a time as they come, MiniLM", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    results = [json.loads(Path(name).read_text("utf-8")) for name in sys.argv[2:]]
    draw(results, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
