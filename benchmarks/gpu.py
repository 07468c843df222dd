"""Every GPU target that works here: accuracy, FP16 against INT8, INT8 kernels, memory.

    python benchmarks/gpu.py [--data DIR] [--targets tensorrt,ort-cuda] [--minutes 9]

One command, no network. DIR is a GLUE QNLI directory; without it accuracy is that of qnli-mini.
First what is right: the embedded model on every target, its accuracy and its certificate. Then what
is fast: FP16 and INT8 in alternating rounds at four shapes, of BERT-base's shape, of the embedded
model and of BERT-large's; with torch and CUDA also the ceiling, a model's GEMMs alone. Last the
accuracy of the other strategies. A target that does not work is written down with its reason, and
so is what the minutes did not suffice for (no step starts after them; the last may take minutes
more); the file is written after every step. Writes benchmarks/results/gpu-DATE.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from machine import heading  # benchmarks/machine.py
from shapes import SIZES, random_bert  # benchmarks/shapes.py

import qdeploy
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.files.artifact import write_json

RESULTS = Path(__file__).parent / "results"
EMBEDDED = "embedded"
TARGETS = ("tensorrt", "ort-cuda", "ort-tensorrt")
SHAPES = ((1, 128), (8, 128), (32, 128), (128, 128))
BUILT_FOR: dict[str, Any] = {"opt_shape": "32x128", "max_shape": "128x128"}
STRATEGIES: dict[str, dict[str, Any]] = {
    "fp16": {"strategy": "fp16"},
    "w8a8": {"strategy": "w8a8"},
    "w8a8-residuals": {"strategy": "w8a8", "int8_residuals": True},
    "peg": {"strategy": "peg"},  # takes the form that is measured to be the fastest
}
OTHERS = ("percentile", "mse", "entropy", "mixed", "smoothquant")  # accuracy alone, if time is left
MODELS = ("base", EMBEDDED, *SIZES.keys() - {"base"})
ROWS = 64  # calibration rows
TOKENS = 128  # of a row of QNLI, in calibration and evaluation
THREADS = os.cpu_count() or 2


class Run:
    """The result as it grows, and the time that is left.

    Attributes:
        result: what is written.
        path: where to.
        work: folder for engines.
        data: of accuracy and calibration.
    """

    def __init__(self, result: dict[str, Any], work: Path, data: str | None, minutes: float):
        self.result, self.work, self.data = result, work, data
        self.path = RESULTS / f"gpu-{datetime.datetime.now():%Y-%m-%dT%H%M}.json"
        self._end = time.monotonic() + 60 * minutes

    def step(self, label: str, work: Callable[[], dict[str, Any]]) -> bool:
        """Do a step and write its entry; whether it went well.

        Whatever goes wrong is the entry, as the steps after it may go well; so is the lack of time.
        """
        entry = self.result["steps"].setdefault(label, {})
        began = time.monotonic()
        try:
            entry |= work() if began < self._end else {"not_run": "no time was left"}
        except QDeployError as error:
            entry["error"] = str(error)
        except Exception as error:
            entry["error"] = f"{type(error).__name__}: {error}"
            entry["at"] = traceback.format_exc()[-800:]
        entry["seconds"] = round(time.monotonic() - began, 1)
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, self.result)
        print(label, json.dumps(entry)[:400], flush=True)
        return not {"error", "not_run"} & set(entry)


def build(run: Run, model: Path, engine: Path, target: str, strategy: str) -> dict[str, Any]:
    """Build for the largest shape; what the builder said of forms and of kernels."""
    given = BUILT_FOR if "least" in find_target(target).takes else {}
    given = given | STRATEGIES.get(strategy, {"strategy": strategy})
    if "timing_cache" in find_target(target).takes:
        given |= {"timing_cache": run.work / f"{target}.cache"}
    if strategy != "fp16":
        given |= {"data": run.data, "calibration_rows": ROWS, "max_length": TOKENS}
    built = qdeploy.build(model, engine, target=target, **given)
    found = {key: built.get(key) for key in ("size_mb", "forms", "builder")}
    return found | {"int8": without_gemms(built["int8"])}


def accuracy(engine: Path, base: Path, data: str | None) -> dict[str, Any]:
    """Against FP32 on the CPU."""
    report = qdeploy.evaluate(
        engine,
        data=data,
        baseline=base,
        max_length=TOKENS,
        batch_size=32,
        latency=False,
        threads=THREADS,
    )
    return {
        "accuracy": report["metrics"]["accuracy"],
        "n": report["metrics"]["n"],
        **{key: report["baseline"][key] for key in ("drop", "mcnemar_p", "sqnr_db")},
    }


def latency(engine: Path, base: Path, rows: int, tokens: int) -> dict[str, Any]:
    """Of one shape, against FP16 in alternating rounds."""
    report = qdeploy.evaluate(
        engine,
        baseline=base,
        batch_size=rows,
        seq_len=tokens,
        warmup=20,
        iterations=100,
        traffic=False,
        accuracy=False,
    )
    keys = ("latency_ms", "device_ms", "speedup", "memory_mb", "cuda_graph", "warnings")
    found = {key: report[key] for key in keys} | {"int8": without_gemms(report["int8"])}
    return found | {
        f"fp16_{key}": report["baseline"][key] for key in ("latency_ms", "device_ms", "memory_mb")
    }


def without_gemms(int8: dict[str, Any] | None) -> dict[str, Any]:
    """A certificate without the list of every GEMM."""
    return {key: value for key, value in (int8 or {}).items() if key != "gemms"}


def build_all(
    run: Run, name: str, model: Path, targets: list[str], strategies: Iterable[str]
) -> dict[tuple[str, str], Path]:
    """Engines of strategies on every target that has an FP16 one."""
    found = {}
    for target in targets:
        for strategy in strategies:
            residuals = STRATEGIES.get(strategy, {}).get("int8_residuals")
            if residuals and not find_target(target).adds_int8:
                continue
            engine = run.work / f"{name}-{target}-{strategy}"
            label = f"build {name}, {target}, {strategy}"
            if run.step(label, partial(build, run, model, engine, target, strategy)):
                found[target, strategy] = engine
            elif strategy == "fp16":
                break  # the target does not work here
    return found


def judge_all(run: Run, engines: dict[tuple[str, str], Path], model: Path) -> None:
    """Accuracy of every engine beside FP32 on the CPU."""
    base = run.work / "fp32"
    if engines and not base.exists():
        run.step("build fp32", partial(plainly, qdeploy.build, model, base, strategy="fp32"))
    for (target, strategy), engine in engines.items():
        run.step(f"accuracy {target}, {strategy}", partial(accuracy, engine, base, run.data))


def time_all(run: Run, name: str, engines: dict[tuple[str, str], Path]) -> None:
    """Every INT8 engine beside its FP16 one, at every shape."""
    for (target, strategy), engine in engines.items():
        if strategy == "fp16":
            continue  # timed beside each of the others
        base = engines[target, "fp16"]
        for rows, tokens in SHAPES:
            label = f"time {name}, {target}, {strategy}, {rows}x{tokens}"
            run.step(label, partial(latency, engine, base, rows, tokens))


def ceiling() -> dict[str, Any]:
    """Times of a layer's GEMMs alone, FP16 and INT8 (torch._int_mm), ms; why not without CUDA."""
    try:
        import torch
    except ImportError:
        return {"not_run": "torch is not installed"}
    if not torch.cuda.is_available():
        return {"not_run": "this torch has no CUDA"}
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="GLUE QNLI directory")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--minutes", type=float, default=9, help="start nothing after so many")
    args = parser.parse_args(arguments)
    targets, models = args.targets.split(","), args.models.split(",")
    try:
        for target in targets:
            find_target(target)
    except QDeployError as error:
        parser.error(str(error))
    if unknown := set(models) - set(MODELS):
        parser.error(f"unknown models {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    warnings.simplefilter("ignore", QDeployWarning)
    result = heading("python benchmarks/gpu.py", 2) | {"doctor": qdeploy.doctor(), "steps": {}}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(result, Path(folder), args.data, args.minutes)
        embedded = run.work / "model"
        if run.step("export embedded", partial(plainly, qdeploy.export, EMBEDDED, embedded)):
            judged = build_all(run, EMBEDDED, embedded, targets, STRATEGIES)
            judge_all(run, judged, embedded)
            targets = [name for name in targets if (name, "fp16") in judged]
            run.step("ceiling", ceiling)
            for name in models if targets else ():
                engines = judged
                if name != EMBEDDED:
                    if not run.step(f"export {name}", partial(export, run, name, embedded)):
                        continue
                    model = run.work / name / "model"
                    engines = build_all(run, name, model, targets, STRATEGIES)
                time_all(run, name, engines)
            judge_all(run, build_all(run, EMBEDDED, embedded, targets, OTHERS), embedded)
    print(f"{run.path}")
    if not any(label.startswith("time") for label in result["steps"]):
        print("No GPU target works here: the steps and the doctor say why.")


def plainly(work: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, Any]:
    """A step of which nothing but its time is told."""
    work(*arguments, **options)
    return {}


def export(run: Run, size: str, embedded: Path) -> dict[str, Any]:
    """BERT's shape with random weights and loud channels."""
    home = run.work / size
    home.mkdir()
    random_bert(home, embedded, size, outliers=True)
    return {"weights": "random, with loud channels"}


if __name__ == "__main__":
    main()
