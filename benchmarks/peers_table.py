"""The tables of docs/benchmarks.md and their picture, from a result of benchmarks/peers.py.

    python benchmarks/peers_table.py benchmarks/results/peers-DATE.json docs/benchmarks.svg

Prints the tables; the picture needs the extra `report` (matplotlib).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peers_traffic_table import traffic_goals, traffic_table  # benchmarks/

ROWS = 5463  # of QNLI's validation set
SHAPES = ("1x128", "8x128", "1x384", "32x128")
# Goals on the BERT-base shape: text, dividend, divisor, shape, limit, and whether less is better.
GOALS = (
    ("ORT FP32 ÷ peg on ort-cpu", "ort-fp32", "qdeploy-peg-ort-cpu", "8x128", 5.0, False),
    ("ORT FP32 ÷ peg on ort-cpu", "ort-fp32", "qdeploy-peg-ort-cpu-1x128", "1x128", 4.0, False),
    ("peg on ort-cpu ÷ ORT dynamic", "qdeploy-peg-ort-cpu", "ort-dynamic", "8x128", 0.75, True),
    ("peg on ort-cpu ÷ NNCF", "qdeploy-peg-ort-cpu", "openvino-nncf", "8x128", 1.25, True),
    ("peg on openvino ÷ NNCF", "qdeploy-peg-openvino", "openvino-nncf", "8x128", 1.0, True),
    (
        "peg on ort-cpu ÷ itself with padding",
        "qdeploy-peg-ort-cpu",
        "qdeploy-peg-ort-cpu-padded",
        "8x128",
        0.95,
        True,
    ),
    (
        "peg on openvino ÷ itself with padding",
        "qdeploy-peg-openvino",
        "qdeploy-peg-openvino-padded",
        "8x128",
        0.95,
        True,
    ),
    (
        "the same, both with the rest in BF16",
        "qdeploy-peg-openvino-bf16",
        "openvino-nncf-bf16",
        "8x128",
        1.0,
        True,
    ),
    (
        "peg on openvino ÷ OpenVINO BF16",
        "qdeploy-peg-openvino",
        "openvino-bf16",
        "8x128",
        0.8,
        True,
    ),
    ("peg ÷ w8a8, ort-cpu", "qdeploy-peg-ort-cpu", "qdeploy-w8a8-ort-cpu", "8x128", 1.05, True),
    ("peg ÷ w8a8, openvino", "qdeploy-peg-openvino", "qdeploy-w8a8-openvino", "8x128", 1.05, True),
)


def latency_table(section: dict[str, Any]) -> Iterator[str]:
    """Median ms by engine and shape."""
    times = section["latency"]
    shapes = [shape for shape in SHAPES if shape in times]
    yield "| engine | " + " | ".join(shape.replace("x", " × ") for shape in shapes) + " |"
    yield "|---" * (len(shapes) + 1) + "|"
    for name in sorted(times[shapes[0]], key=lambda name: times[shapes[-1]][name]):
        yield f"| {name} | " + " | ".join(f"{times[shape][name]:.1f}" for shape in shapes) + " |"
    for name, about in section.get("built", {}).items():
        if "error" in about:
            yield f"| {name} | does not build: {about['error']} |"


def goals_table(section: dict[str, Any]) -> Iterator[str]:
    """The ratios that the project set itself, met or missed."""
    yield "| ratio of medians | shape | goal | measured | |"
    yield "|---|---|---|---|---|"
    for text, above, below, shape, limit, less in GOALS:
        times = section["latency"].get(shape, {})
        if above not in times or below not in times:
            continue
        ratio = times[above] / times[below]
        met = ratio <= limit if less else ratio >= limit
        sign = "≤" if less else "≥"
        verdict = "met" if met else "missed"
        yield f"| {text} | {shape.replace('x', ' × ')} | {sign} {limit} | {ratio:.2f} | {verdict} |"


def accuracy_table(section: dict[str, Any]) -> Iterator[str]:
    """Accuracy and noise on QNLI's validation set."""
    yield "| engine | accuracy % | drop | SQNR dB |"
    yield "|---|---|---|---|"
    exact = section["accuracy"]["ort-fp32"]["accuracy"]
    for name, found in section["accuracy"].items():
        noise = "" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f}"
        drop = 100 * (exact - found["accuracy"])
        yield f"| {name} | {100 * found['accuracy']:.2f} | {drop:+.2f} | {noise} |"
    for name, about in section.get("built", {}).items():
        if "error" in about:
            yield f"| {name} | does not build: {about['error']} |"


def cost_table(section: dict[str, Any]) -> Iterator[str]:
    """What calibration on 512 rows takes."""
    yield "| calibrator | seconds | peak MB |"
    yield "|---|---|---|"
    for name, found in section.items():
        if "error" in found:
            yield f"| {name} | {found['error']} | |"
        else:
            yield f"| {name} | {found['seconds']:.0f} | {found['peak_mb']:.0f} |"


def footprint_table(section: dict[str, Any]) -> Iterator[str]:
    """Engines of the BERT-base shape on disk, at load, and at their peak."""
    yield "| engine | on disk, MB | load, s | peak memory, MB |"
    yield "|---|---|---|---|"
    for name, found in section.items():
        figures = (found["model_mb"], found["load_s"], found["peak_mb"])
        yield f"| {name} | {figures[0]:.1f} | {figures[1]:.2f} | {figures[2]:.0f} |"


def kernels_table(section: dict[str, Any]) -> Iterator[str]:
    """Where a run of 8 × 128 goes, by kernel: a table for each target, engines side by side."""
    for target in sorted({name.split("-", 2)[2] for name in section}):
        shares: dict[str, dict[str, str]] = {}  # kernel → engine → %
        engines = sorted(name for name in section if name.endswith(f"-{target}"))
        for name in engines:
            times = section[name]["kernels_ms"]
            for kernel, ms in times.items():
                shares.setdefault(kernel, {})[name] = f"{100 * ms / sum(times.values()):.0f}"
        yield from ("", f"| kernel, % of the time | {' | '.join(engines)} |")
        yield "|---" * (len(engines) + 1) + "|"
        for kernel in sorted(shares):
            yield f"| {kernel} | " + " | ".join(shares[kernel].get(n, "") for n in engines) + " |"


def draw(section: dict[str, Any], path: Path) -> None:
    """Accuracy against latency at 8 × 128 of every engine on the embedded model."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    plt.rcParams |= {"svg.hashsalt": "qdeploy", "font.size": 9}
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    times = section["latency"]["8x128"]
    names = sorted(section["accuracy"], key=times.__getitem__)
    for place, name in enumerate(names, 1):
        share = section["accuracy"][name]["accuracy"]
        color = "#1e8449" if name.startswith("qdeploy") else "#5d6d7e"
        half = 196 * (share * (1 - share) / ROWS) ** 0.5
        label = f"{place}  {name}, {times[name]:.0f} ms"
        axes.errorbar(times[name], 100 * share, half, fmt="o", color=color, elinewidth=0.4,
                      label=label)  # fmt: skip
        offset = (5, 5 if place % 2 else -12)
        point = (times[name], 100 * share)
        axes.annotate(str(place), point, xytext=offset, textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xticks([30, 40, 60, 80, 120])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set_xlabel("ms for 8 × 128 (median, two threads)")
    axes.set_ylabel("QNLI accuracy, % (bars: 95 %)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    result = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for name in ("base", "outliers", "embedded"):
        if "latency" in result.get(name, {}):
            print(f"\n## {name}\n", *latency_table(result[name]), sep="\n")
            print("", *goals_table(result[name]), sep="\n")
        if "traffic" in result.get(name, {}):
            runs = result[name]["traffic"]
            print(f"\n## {name}, traffic\n", *traffic_table(runs), sep="\n")
            print("", *traffic_goals(name, runs), sep="\n")
    if "accuracy" in result.get("embedded", {}):
        print("\n## accuracy\n", *accuracy_table(result["embedded"]), sep="\n")
        if len(sys.argv) > 2 and "latency" in result["embedded"]:
            draw(result["embedded"], Path(sys.argv[2]))
    if "calibration" in result:
        print("\n## calibration\n", *cost_table(result["calibration"]), sep="\n")
    if "footprint" in result:
        print("\n## footprint\n", *footprint_table(result["footprint"]), sep="\n")
        print(*kernels_table(result["footprint"]), sep="\n")


if __name__ == "__main__":
    main()
