"""Every GPU target that works here: accuracy, FP16 against INT8, INT8 kernels, memory.

    python benchmarks/gpu.py [--data DIR] [--targets tensorrt,ort-cuda] [--quick]

One command, no network, under ten minutes. DIR is a GLUE QNLI directory; without it accuracy is
that of qnli-mini. A target that does not work is written down with its reason. FP16 and INT8 of a
target run in alternating rounds; each engine's certificate says what ran in INT8. With torch and
CUDA the ceiling is measured too: the same GEMMs alone, FP16 and INT8. Writes
benchmarks/results/gpu-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from machine import heading, keep  # benchmarks/machine.py
from shapes import SIZES, random_bert  # benchmarks/shapes.py

import qdeploy
from qdeploy.errors import QDeployError, QDeployWarning

RESULTS = Path(__file__).parent / "results"
TARGETS = ("tensorrt", "ort-tensorrt", "ort-cuda")
SHAPES = ((1, 128), (8, 128), (32, 128), (128, 128))
STRATEGIES: dict[str, dict[str, Any]] = {
    "fp16": {"strategy": "fp16"},
    "w8a8": {"strategy": "w8a8"},
    "peg": {"strategy": "peg"},
    "peg, slices": {"strategy": "peg", "prescale": "none"},
}
ROWS = 64  # calibration rows of the random models


def build(model: Path, engine: Path, target: str, data: str | None, **options: Any) -> Any:
    """Build for the largest shape; the error's text where it fails."""
    shapes = {"opt_shape": "32x128", "max_shape": "128x128"}
    if options["strategy"] != "fp16":
        options |= {"data": data, "calibration_rows": ROWS}
    try:
        return qdeploy.build(model, engine, target=target, **shapes, **options)
    except QDeployError as error:
        return {"error": str(error)}


def accuracy(engine: Path, base: Path, data: str | None) -> dict[str, Any]:
    """Against FP32 on the CPU."""
    report = qdeploy.evaluate(engine, data=data, baseline=base, batch_size=32, latency=False)
    return {
        "accuracy": report["metrics"]["accuracy"],
        "n": report["metrics"]["n"],
        **{key: report["baseline"][key] for key in ("drop", "mcnemar_p", "sqnr_db")},
    }


def latency(engine: Path, base: Path | None, rows: int, tokens: int) -> dict[str, Any]:
    """Of one shape, against FP16 in alternating rounds."""
    report = qdeploy.evaluate(
        engine,
        baseline=base,
        batch_size=rows,
        seq_len=tokens,
        warmup=20,
        iterations=100,
        accuracy=False,
    )
    keys = ("latency_ms", "device_ms", "speedup", "memory_mb", "cuda_graph")
    int8 = {key: value for key, value in report["int8"].items() if key != "gemms"}
    return {key: report[key] for key in keys} | {"int8": int8}


def of_model(model: Path, targets: list[str], data: str | None, work: Path) -> dict[str, Any]:
    """Every strategy on every target: built, certified, timed."""
    found: dict[str, Any] = {}
    for target in targets:
        fp16 = work / f"{target}-fp16"
        for name, options in STRATEGIES.items():
            engine = fp16 if name == "fp16" else work / f"{target}-{name.replace(', ', '-')}"
            began = time.monotonic()
            built = build(model, engine, target, data, **options)
            entry: dict[str, Any] = {"build_s": round(time.monotonic() - began, 1)}
            if "error" in built:
                entry["error"] = built["error"]
            else:
                base = None if name == "fp16" else fp16
                shapes = {f"{r}x{t}": latency(engine, base, r, t) for r, t in SHAPES}
                entry |= {"size_mb": built["size_mb"], "shapes": shapes}
            found[f"{name}, {target}"] = entry
    return found


def ceiling() -> dict[str, Any]:
    """Times of a layer's GEMMs alone, FP16 and INT8 (torch._int_mm), ms; empty without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return {}
    found: dict[str, Any] = {}
    for size, (hidden, layers, _, inner) in SIZES.items():
        shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
        for rows, tokens in SHAPES:
            m = max(rows * tokens, 32)
            times = {}
            for kind in ("fp16", "int8"):
                pairs = [_operands(torch, kind, m, k, n) for k, n in shapes]
                multiply = torch.matmul if kind == "fp16" else torch._int_mm
                times[kind] = layers * _timed(torch, lambda p=pairs, f=multiply: [f(*q) for q in p])
            found[f"{size} {rows}x{tokens}"] = times | {"ratio": times["fp16"] / times["int8"]}
    return found


def _operands(torch: Any, kind: str, m: int, k: int, n: int) -> tuple[Any, Any]:
    if kind == "fp16":
        return (
            torch.randn(m, k, device="cuda", dtype=torch.float16),
            torch.randn(k, n, device="cuda", dtype=torch.float16),
        )
    left = torch.randint(-127, 127, (m, k), device="cuda", dtype=torch.int8)
    right = torch.randint(-127, 127, (n, k), device="cuda", dtype=torch.int8).t()
    return left, right


def _timed(torch: Any, work: Any) -> float:
    """Median of 50 runs between two events, ms."""
    times = []
    for _ in range(60):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(sorted(times[10:])[25])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="GLUE QNLI directory")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--quick", action="store_true", help="without BERT-large")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    result = heading("python benchmarks/gpu.py", 2) | {"doctor": qdeploy.doctor()}
    health = result["doctor"]["targets"]
    targets = [t for t in args.targets.split(",") if health[t]["works"]]
    result["ceiling"] = ceiling()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        embedded = work / "embedded"
        qdeploy.export("embedded", embedded)
        qdeploy.build(embedded, work / "fp32", strategy="fp32")
        result["models"] = {"embedded": of_model(embedded, targets, args.data, work)}
        for label, entry in result["models"]["embedded"].items():
            if "error" not in entry:
                name, target = label.rsplit(", ", 1)
                engine = work / f"{target}-{name.replace(', ', '-')}"
                entry["accuracy"] = accuracy(engine, work / "fp32", args.data)
        for size in ("base",) if args.quick else SIZES:
            home = work / size
            home.mkdir()
            model = random_bert(home, embedded, size, outliers=True)
            result["models"][size] = of_model(model, targets, args.data, home)
    if not targets:
        print("No GPU target works here; see the doctor's reasons in the result.")
    print(json.dumps(keep(RESULTS / f"gpu-{result['date']}.json", result), indent=1))


if __name__ == "__main__":
    main()
