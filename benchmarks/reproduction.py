"""The experiment of arXiv 2603.04308 on any encoder fine-tuned on QNLI, beside the paper's figures.

    python benchmarks/reproduction.py --data DIR [--model embedded] [--folder sweep-paper]

DIR is a GLUE QNLI directory. Runs the sweep of recipes/paper.yaml (what is done in the folder is
not done again), `qdeploy analyze` in the paper's setting, and `--strategy auto --max-drop 0.3`,
whose engine is then held against every engine of the sweep that may be as fast. Writes
benchmarks/results/reproduction-DATE.json and .md, pages and pictures into the folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import heading  # benchmarks/machine.py

import qdeploy
from qdeploy.errors import GateError
from qdeploy.evaluate.rounds import ITERATIONS, WARMUP
from qdeploy.files.artifact import write_json

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "paper.yaml"
MAX_DROP = 0.3
AS_FAST = 1.03  # times closer than this are one
TOKENS = 128  # of a row, as in the recipe
ALL = "all symmetric per-tensor"
# Label of a trial → (what the paper calls it, its accuracy in %): BERT-base, one seed.
PAPER = {
    "fp32": ("FP32", 89.66),
    f"w8a8 {ALL}": ("W8A8", 54.33),
    f"mixed {ALL}": ("mixed precision", 89.42),
    **{
        f"percentile percentile={p} {ALL}": (f"percentile {p}", 50.54)
        for p in (99.0, 99.5, 99.9, 99.99)
    },
    f"peg groups=2 contiguous {ALL}": ("PEG K=2", 49.46),
    f"peg groups=3 contiguous {ALL}": ("PEG K=3", 66.12),
    f"peg groups=4 contiguous {ALL}": ("PEG K=4", 86.18),
}
# Kurtosis of the hidden states, from the embeddings to the last layer (BERT-base).
PAPER_KURTOSIS = (9.0, 13.9, 41.0, 50.8, 72.9, 82.1, 75.5, 59.6, 92.3, 113.1, 134.6, 271.1, 73.2)


def as_fast(trials: list[dict[str, Any]], slowest: float) -> list[dict[str, Any]]:
    """INT8 engines of the sweep that may take no longer than this part of FP32's time."""
    found = [t for t in trials[1:] if t["error"] is None and t["int8"] and t["speedup"]]
    return [t for t in found if 1 / t["speedup"]["ci95"][1] <= slowest]


def run_auto(model: Path, folder: Path, sweep: dict[str, Any], data: str) -> dict[str, Any]:
    """Build within the drop, and compare with FP32 and with the sweep's best as fast."""
    rows: dict[str, Any] = {"data": data, "max_length": TOKENS}
    runs = {"warmup": WARMUP, "iterations": ITERATIONS, "traffic": False}
    built = qdeploy.build(
        model, folder / "auto", strategy="auto", max_drop=MAX_DROP, force=True, **rows
    )
    base = folder / "trials" / sweep["trials"][0]["key"] / "engine"
    report = qdeploy.evaluate(folder / "auto", baseline=base, **rows, **runs)
    found: dict[str, Any] = {
        "search": built["search"],
        "accuracy": report["metrics"]["accuracy"],
        "drop": report["baseline"]["drop"],
        "mcnemar_p": report["baseline"]["mcnemar_p"],
        "sqnr_db": report["baseline"]["sqnr_db"],
        "speedup": report["speedup"],
        "against": [],
    }
    for trial in as_fast(sweep["trials"], AS_FAST / report["speedup"]["ci95"][0]):
        engine = folder / "trials" / trial["key"] / "engine"
        against = qdeploy.evaluate(folder / "auto", baseline=engine, **rows, **runs)
        found["against"].append(
            {
                "label": trial["label"],
                "accuracy": against["baseline"]["accuracy"],
                "drop": against["baseline"]["drop"],
                "mcnemar_p": against["baseline"]["mcnemar_p"],
                "speedup": against["speedup"],
            }
        )
    return found


def by_depth(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    """Figures of the hidden states and of the FFN residual sums, from the embeddings up."""
    lines = []
    for depth in sorted({site["depth"] for site in analysis["sites"]}):
        here = [s for s in analysis["sites"] if s["depth"] == depth and s["stream"]]
        # the last LayerNorm of a depth is the hidden state; a pre-norm encoder's is the next sum
        hidden = [s for s in here if s["kind"] == "LayerNorm output"][-1:] or here[-1:]
        sums = [s for s in here if s["kind"] == "FFN residual sum"]
        lines.append({"depth": depth, "hidden": hidden[0], "sum": sums[0] if sums else None})
    return lines


def tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    return "\n\n".join(
        [
            f"{result['machine']}, {result['date']}; "
            + ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
            _strategies(result["trials"]),
            _depths(result["depths"]),
            _auto(result["auto"]),
        ]
    )


def _strategies(trials: list[dict[str, Any]]) -> str:
    lines = [
        "| engine | the paper's, % | here, % (95 %) | drop | SQNR, dB | p50, ms | p95, ms "
        "| FP32's p50 then | × FP32 | memory, MB | size, MB | INT8 GEMMs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for trial in trials:
        name, accuracy = PAPER.get(trial["label"], (None, None))
        label = trial["label"] + (f" ({name})" if name else "")
        if trial["error"] is not None:
            lines.append(f"| {label} | {accuracy or ''} | failed: {trial['error']} |" + " |" * 9)
            continue
        low, high = (100 * value for value in trial["ci95"])
        check, memory = trial["int8"], trial["memory_mb"] or {}
        constant = ", CONSTANT" if trial["constant_predictor"] else ""
        cells = [
            label,
            f"{accuracy:.2f}" if accuracy else "",
            f"{100 * trial['accuracy']:.2f} ({low:.2f} to {high:.2f}){constant}",
            f"{100 * trial['drop']:+.2f}",
            "" if trial["sqnr_db"] is None else f"{trial['sqnr_db']:.1f}",
            f"{trial['p50_ms']:.1f}",
            f"{trial['p95_ms']:.1f}",
            f"{trial['p50_ms'] / trial['relative']:.1f}",
            f"{1 / trial['relative']:.2f}",
            f"{memory['peak']:.0f}" if "peak" in memory else "",
            f"{trial['size_mb']['total']:.1f}",
            f"{check['executed']}/{check['planned']}" if check else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _depths(depths: list[dict[str, Any]]) -> str:
    lines = [
        "| depth | kurtosis, the paper's BERT-base | kurtosis of the hidden state "
        "| energy of its top 1 % channels | of its top 1 % elements "
        "| kurtosis of the FFN residual sum | widest over median channel |",
        "|---|---|---|---|---|---|---|",
    ]
    for i in range(max(len(depths), len(PAPER_KURTOSIS))):
        paper = f"{PAPER_KURTOSIS[i]}" if i < len(PAPER_KURTOSIS) else ""
        cells = [str(i), paper, "", "", "", "", ""]
        if i < len(depths):
            hidden, added = depths[i]["hidden"], depths[i]["sum"]
            cells[2:5] = [
                f"{hidden['kurtosis']:.1f}",
                f"{hidden['energy_top_1pct_channels']:.3f}",
                f"{hidden['energy_top_1pct_elements']:.3f}",
            ]
            if added is not None:
                cells[5:] = [f"{added['kurtosis']:.0f}", f"{added['max_over_median_channel']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _auto(auto: dict[str, Any]) -> str:
    chosen = " ".join(f"{k}={v}" for k, v in auto["search"]["chosen"].items())
    speed = auto["speedup"]
    text = (
        f"auto keeps {chosen}: {100 * auto['accuracy']:.2f} % ({100 * auto['drop']:+.2f}, "
        f"p = {auto['mcnemar_p']:.2g}), {speed['ratio']:.2f} × FP32 ({speed['ci95'][0]:.2f} to "
        f"{speed['ci95'][1]:.2f}), {auto['sqnr_db']:.1f} dB."
    )
    lines = [
        "",
        "",
        "| engine of the sweep | its accuracy, % | auto has less | p | its time / auto's |",
        "|---|---|---|---|---|",
    ]
    for other in auto["against"]:
        low, high = other["speedup"]["ci95"]
        lines.append(
            f"| {other['label']} | {100 * other['accuracy']:.2f} | {100 * other['drop']:+.2f} "
            f"| {other['mcnemar_p']:.2g} "
            f"| {other['speedup']['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    return text + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="GLUE QNLI directory")
    parser.add_argument("--model", default="embedded", help="checkpoint, hub id or model directory")
    parser.add_argument("--folder", type=Path, default=Path("sweep-paper"))
    args = parser.parse_args()
    folder = args.folder
    result = heading("python benchmarks/reproduction.py --data DIR", 2) | {"model": args.model}
    outputs = {"html": folder / "sweep.html", "plot": folder / "pictures"}
    try:
        sweep = qdeploy.sweep(
            args.model, folder, recipe=RECIPE, data=args.data, max_drop=MAX_DROP, **outputs
        )
    except GateError as error:  # that no engine holds the drop is a result
        sweep = error.report
    model = Path(sweep["model"])
    analysis = qdeploy.analyze(
        model,
        data=args.data,
        max_length=TOKENS,
        scope="all",
        activations="symmetric",
        html=folder / "analysis.html",
        plot=folder / "pictures",
    )
    write_json(folder / "analysis.json", analysis)
    keep = ("label", "error", "accuracy", "ci95", "drop", "mcnemar_p", "sqnr_db", "flipped")
    keep += ("constant_predictor", "p50_ms", "p95_ms", "relative", "speedup", "memory_mb")
    keep += ("size_mb", "int8")
    result["trials"] = [{name: t.get(name) for name in keep} for t in sweep["trials"]]
    result["depths"] = by_depth(analysis)
    result["recommendations"] = [entry["text"] for entry in analysis["recommendations"]]
    result["auto"] = run_auto(model, folder, sweep, args.data)
    path = HERE / "results" / f"reproduction-{result['date']}.json"
    write_json(path, result)
    path.with_suffix(".md").write_text(tables(result) + "\n", "utf-8")
    print(tables(result))
    print(json.dumps(result["recommendations"], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
