"""Every strategy on the embedded model and the QNLI validation set: accuracy, latency, cost.

    python benchmarks/qnli.py --data shared/data/qnli

`--data` is a GLUE QNLI directory (`train.tsv` for calibration, `dev.tsv` for evaluation). Writes
`benchmarks/results/qnli-DATE.json` and the same as a Markdown table. About 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import heading, keep  # benchmarks/machine.py

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.data.tasks import find_task
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate.accuracy import Judged, compare, metrics_of, predict_rows
from qdeploy.evaluate.latency import LatencyProtocol, fixed_feeds
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.rounds import ITERATIONS, WARMUP
from qdeploy.evaluate.size import engine_size

PEAKS = "statistics_peak_mb"
TOKENS = 128  # of a row, as arXiv 2603.04308 evaluates QNLI
PADDED, _ = ROWS = ("padded", "full")
RESULTS = Path(__file__).parent / "results"
SYMMETRIC = {"scope": "all", "activations": "symmetric", "weights": "per-tensor"}
ASYMMETRIC = {"scope": "all", "activations": "asymmetric", "weights": "per-tensor"}


@dataclass(frozen=True)
class Trial:
    """One engine: a label for the table, a strategy and the options of `qdeploy.build`."""

    label: str
    strategy: str
    options: dict[str, Any] = field(default_factory=dict)


def trials() -> list[Trial]:
    """The table of docs/results.md, top to bottom."""
    found = [Trial("fp32", "fp32"), Trial("dynamic", "dynamic")]
    for scheme in ("asymmetric", "symmetric"):
        for strategy in ("w8a8", "smoothquant", "peg"):
            options = {"activations": scheme}
            found.append(Trial(f"{strategy}, gemm, {scheme}", strategy, options))
    for name, options in (("symmetric", SYMMETRIC), ("asymmetric", ASYMMETRIC)):
        found.append(Trial(f"w8a8, all, {name}", "w8a8", options))
        for percent in (99.0, 99.9, 99.99):
            label = f"percentile {percent}, all, {name}"
            found.append(Trial(label, "percentile", {**options, "percentile": percent}))
    found.append(Trial("mse, all, symmetric", "mse", SYMMETRIC))
    found.append(Trial("entropy, all, symmetric", "entropy", SYMMETRIC))
    for k in (2, 4):
        for grouping in ("contiguous", "sorted", "optimal"):
            label = f"peg K={k} {grouping}, all, symmetric"
            options = {**SYMMETRIC, "groups": k, "grouping": grouping}
            found.append(Trial(label, "peg", options))
    label = "peg K=4 optimal, all, per-channel weights"
    found.append(Trial(label, "peg", {"scope": "all", "groups": 4}))
    found.append(Trial("mixed, all, asymmetric", "mixed", {"scope": "all"}))
    found.append(Trial("mixed, all, symmetric, per-tensor weights", "mixed", SYMMETRIC))
    return found


def build(trial: Trial, model: Path, statistics: Path, work: Path) -> Path:
    """The engine directory of a trial."""
    engine = work / "engine"
    qdeploy.build(
        model,
        engine,
        strategy=trial.strategy,
        statistics=statistics,
        force=True,
        **trial.options,
    )
    return engine


def accuracy(
    model: Path, statistics: Path, data: Path, work: Path, threads: int, only: str = ""
) -> list[Any]:
    """One line per trial on every row of `dev.tsv`; the first is the baseline."""
    rows, task = read_rows(data, split="evaluation"), find_task("qnli")
    base: Judged | None = None
    base_size = 0.0
    lines = []
    chosen = [t for t in trials() if t.label == "fp32" or only in t.label]
    for trial in chosen:
        subject = load_engine(build(trial, model, statistics, work), threads)
        judged = predict_rows(subject, rows, task, max_length=TOKENS, batch_size=32)
        size = engine_size(subject.directory)["total"]
        base, base_size = base or judged, base_size or size
        int8 = json.loads((subject.directory / "certificate.json").read_text())["int8"]
        line = {
            "label": trial.label,
            "strategy": trial.strategy,
            "options": trial.options,
            **metrics_of(judged),
            **{k: v for k, v in compare(judged, base).items() if k != "accuracy"},
            "int8": f"{int8['executed']}/{int8['planned']}",
            "size_ratio": size / base_size,
        }
        lines.append(line)
        print(markdown_row(line), file=sys.stderr, flush=True)
    return lines


def markdown_row(line: dict[str, Any]) -> str:
    """One line of the accuracy table."""
    sqnr = "" if line["sqnr_db"] is None else f"{line['sqnr_db']:.1f}"
    constant = " CONSTANT PREDICTOR" if line["constant_predictor"] else ""
    return (
        f"| {line['label']} | {100 * line['accuracy']:.2f}{constant} | {100 * line['drop']:+.2f} | "
        f"{line['mcnemar_p']:.2g} | {sqnr} | {line['int8']} | {line['size_ratio']:.3f} |"
    )


def latency(model: Path, statistics: Path, work: Path, threads: int) -> list[dict[str, Any]]:
    """The paper's protocol (8 × 128, 100 + 500) for each engine, interleaved with fp32.

    Once on rows as they come, padded to 128 tokens, and once on rows that fill all 128.
    """
    qdeploy.build(model, work / "fp32", strategy="fp32", force=True)
    lines = []
    for rows, strategy in itertools.product(ROWS, ("dynamic", "w8a8", "peg")):
        engine = build(Trial(strategy, strategy), model, statistics, work)
        report = qdeploy.evaluate(
            engine,
            baseline=work / "fp32",
            data=None if rows == PADDED else str(long_rows(work)),
            accuracy=False,
            traffic=False,
            warmup=WARMUP,
            iterations=ITERATIONS,
            threads=threads,
        )
        lines.append(
            {
                "rows": rows,
                "strategy": strategy,
                "p50_ms": report["latency_ms"]["p50"],
                "fp32_p50_ms": report["baseline"]["latency_ms"]["p50"],
                "speedup": report["speedup"],
                "memory_mb": report["memory_mb"],
                "fp32_memory_mb": report["baseline"]["memory_mb"],
                "int8": f"{report['int8']['executed']}/{report['int8']['planned']}",
            }
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def long_rows(work: Path) -> Path:
    """A file of eight pairs that each have more than 128 tokens."""
    short = read_rows("qnli-mini").take(8)
    assert short.second is not None
    path = work / "long.tsv"
    lines = [f"{a}\t{' '.join([b] * 20)}" for a, b in zip(short.first, short.second, strict=True)]
    path.write_text("question\tsentence\n" + "\n".join(lines) + "\n", "utf-8")
    return path


def profile(model: Path, statistics: Path, work: Path, threads: int) -> dict[str, Any]:
    """Share of a run's kernel time by operator, at 8 × 128, for fp32 and peg."""
    rows = read_rows("qnli-mini")
    shares = {}
    for strategy in ("fp32", "peg"):
        subject = load_engine(build(Trial(strategy, strategy), model, statistics, work), threads)
        feeds = fixed_feeds(subject.encoder, rows.take(8), LatencyProtocol())
        times: Counter[str] = Counter()
        for kernel in subject.engine.profile(feeds, iterations=50):
            times[kernel.kernel] += kernel.ms
        shares[strategy] = {name: ms / times.total() for name, ms in times.most_common(8)}
    return shares


def cost(data: Path, work: Path) -> dict[str, Any]:
    """Wall time of export and build, and peak memory of statistics over 128 and 2,048 rows."""
    began = time.monotonic()
    script = [sys.executable, "-m", "qdeploy"]
    subprocess.run([*script, "export", "embedded", str(work / "timed"), "--quiet"], check=True)
    arguments = ["--strategy", "peg", "--data", str(data), "--calibration-rows", "128", "--quiet"]
    arguments += ["--max-length", str(TOKENS)]
    subprocess.run(
        [*script, "build", str(work / "timed"), str(work / "timed-peg"), *arguments], check=True
    )
    seconds = time.monotonic() - began
    peaks = {rows: peak_of_statistics(work / "timed", data, rows) for rows in (128, 2048)}
    return {"export_and_build_seconds": seconds, PEAKS: peaks}


def peak_of_statistics(model: Path, data: Path, rows: int) -> float:
    """Peak resident memory, MB, of a fresh process that calibrates on so many rows."""
    for kept in (model / "statistics").glob("*.npz"):
        kept.unlink()
    # VmHWM, not getrusage: the latter starts from the parent's peak in a forked process.
    code = (
        "import re, sys, qdeploy\n"
        "rows, tokens = map(int, sys.argv[3:])\n"
        "how = {'calibration_rows': rows, 'max_length': tokens}\n"
        "qdeploy.calibrate(sys.argv[1], data=sys.argv[2], **how)\n"
        "status = open('/proc/self/status').read()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1000)\n"
    )
    command = [sys.executable, "-c", code, *map(str, (model, data, rows, TOKENS))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    lines = [f"# QNLI on the embedded model, {result['date']}", "", f"`{result['command']}`", ""]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines.append(f"{result['machine']}; {versions}")
    if "accuracy" in result:
        lines += ["", "| engine | accuracy % | drop | p | SQNR dB | INT8 GEMMs | size / FP32 |"]
        lines += ["|---|---|---|---|---|---|---|", *map(markdown_row, result["accuracy"])]
    if "latency" in result:
        lines += [
            "",
            "| engine | rows | p50 ms | FP32 p50 ms | FP32 ÷ engine (95 %) | INT8 GEMMs |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for row in result["latency"]:
            low, high = row["speedup"]["ci95"]
            times = f"{row['p50_ms']:.1f} | {row['fp32_p50_ms']:.1f}"
            ratio = f"{row['speedup']['ratio']:.2f} ({low:.2f} to {high:.2f})"
            lines.append(
                f"| {row['strategy']} | {row['rows']} | {times} | {ratio} | {row['int8']} |"
            )
    for strategy, shares in result.get("profile", {}).items():
        largest = sorted(shares.items(), key=lambda pair: -pair[1])
        kernels = ", ".join(f"{name} {100 * share:.0f} %" for name, share in largest)
        lines += ["", f"Kernel time of {strategy}: {kernels}."]
    if "cost" in result:
        seconds, peaks = (result["cost"][key] for key in ("export_and_build_seconds", PEAKS))
        memory = ", ".join(f"{peak:.0f} MB over {rows} rows" for rows, peak in peaks.items())
        lines += ["", f"Export and build of peg: {seconds:.0f} s.", ""]
        lines.append(f"Peak memory of a process that makes statistics: {memory}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sections", default="accuracy,latency,profile,cost")
    parser.add_argument("--only", default="", help="accuracy of labels that hold this text")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    result = heading("python benchmarks/qnli.py --data DIR", args.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        qdeploy.export("embedded", work / "model")
        statistics = qdeploy.calibrate(
            work / "model", data=str(args.data), calibration_rows=128, max_length=TOKENS
        )
        if "accuracy" in args.sections:
            made = work / "model", statistics, args.data, work, args.threads
            result["accuracy"] = accuracy(*made, only=args.only)
        if "latency" in args.sections:
            result["latency"] = latency(work / "model", statistics, work, args.threads)
        if "profile" in args.sections:
            result["profile"] = profile(work / "model", statistics, work, args.threads)
        if "cost" in args.sections:
            result["cost"] = cost(args.data, work)
    name = f"qnli-{result['date']}"
    result = keep(RESULTS / f"{name}.json", result)
    (RESULTS / f"{name}.md").write_text(markdown(result), "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
