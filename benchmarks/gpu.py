"""Every GPU target that works here: accuracy, FP16 against INT8 and FP8, kernels, memory, ceilings.

    python benchmarks/gpu.py [--data DIR] [--targets tensorrt,ort-cuda] [--minutes 9] [--plan]

One command, no network. DIR is a GLUE QNLI directory; without it accuracy is that of qnli-mini.
First what is right: the embedded model on every target, its accuracy and its certificate, and
whether this device takes a plan of TensorRT-RTX, in NVIDIA's words. Then what is fast: FP16 and
each other strategy in alternating rounds at four shapes, of BERT-base's shape, of the embedded
model and of BERT-large's; with torch and CUDA also the ceilings, a model's GEMMs alone. Last the
accuracy of the other strategies. A target that does not work is written down with its reason, and
so is what the minutes did not suffice for (no step starts after them; the last may take minutes
more); the file is written after every step. Writes benchmarks/results/gpu-DATE.json. --plan prints
the steps and does none.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gpu_rtx  # benchmarks/gpu_rtx.py
import gpu_run as steps  # benchmarks/gpu_run.py
from gpu_ceilings import ceilings  # benchmarks/gpu_ceilings.py
from gpu_run import STRATEGIES, Run
from shapes import SIZES  # benchmarks/shapes.py

import qdeploy
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import QDeployError, QDeployWarning

EMBEDDED = "embedded"
TARGETS = ("tensorrt", "ort-cuda", "ort-tensorrt", "tensorrt-rtx", "ort-tensorrt-rtx")
RTX = "tensorrt-rtx"
SHAPES = ((1, 128), (8, 128), (32, 128), (128, 128))
OTHERS = ("percentile", "mse", "entropy", "mixed", "smoothquant")  # accuracy alone, if time is left
MODELS = ("base", EMBEDDED, *SIZES.keys() - {"base"})
GOALS = (  # target, rows of a run, how many times FP16's speed INT8 has at the least
    ("tensorrt", 1, 1.2),
    ("tensorrt", 128, 1.7),
    *(("ort-cuda", rows, 1.0) for rows, _ in SHAPES),
)


def build_all(
    run: Run, name: str, model: Path, targets: list[str], strategies: Iterable[str]
) -> dict[tuple[str, str], Path]:
    """Engines of strategies on every target that has an FP16 one."""
    found = {}
    for target in targets:
        for strategy in strategies:
            if not expresses(target, strategy):
                continue
            engine = run.work / f"{name}-{target}-{strategy}"
            label = f"build {name}, {target}, {strategy}"
            if run.step(label, partial(steps.build, run, model, engine, target, strategy)):
                found[target, strategy] = engine
            elif strategy == "fp16":
                break  # the target does not work here
    return found


def expresses(target: str, strategy: str) -> bool:
    """Whether a target has what a strategy asks for."""
    has = find_target(target)
    residuals = STRATEGIES.get(strategy, {}).get("int8_residuals")
    return (has.adds_int8 or not residuals) and (has.takes_fp8 or strategy != "fp8")


def judge_all(run: Run, engines: dict[tuple[str, str], Path], model: Path) -> None:
    """Accuracy of every engine beside FP32 on the CPU."""
    base = run.work / "fp32"
    if engines and "build fp32" not in run.result["steps"]:
        run.step("build fp32", partial(steps.plainly, qdeploy.build, model, base, strategy="fp32"))
    for (target, strategy), engine in engines.items():
        run.step(f"accuracy {target}, {strategy}", partial(steps.accuracy, engine, base, run.data))


def time_all(run: Run, name: str, engines: dict[tuple[str, str], Path]) -> None:
    """Every engine of 8 bits beside its FP16 one, at every shape."""
    for (target, strategy), engine in engines.items():
        if strategy == "fp16":
            continue  # timed beside each of the others
        base = engines[target, "fp16"]
        for rows, tokens in SHAPES:
            label = f"time {name}, {target}, {strategy}, {rows}x{tokens}"
            run.step(label, partial(steps.latency, engine, base, rows, tokens))


def load_all(run: Run, engines: dict[tuple[str, str], Path]) -> None:
    """What TensorRT-RTX compiles on the device when it loads an engine."""
    for (target, strategy), engine in engines.items():
        if target == RTX:
            label = f"load {EMBEDDED}, {target}, {strategy}"
            run.step(label, partial(gpu_rtx.jit_times, engine, SHAPES[:2]))


def verdicts(result: dict[str, Any]) -> dict[str, Any]:
    """Which of FP16 and 8 bits is faster at each timed step, and whether the goals are reached.

    A goal is held against the fastest INT8 engine of BERT-base's shape.
    """
    timed = {label: entry for label, entry in result["steps"].items() if "times_fp16" in entry}
    goals = {}
    for target, rows, least in GOALS:
        reached = [
            entry["times_fp16"]
            for label, entry in timed.items()
            if label.startswith(f"time base, {target}, ")
            and f", {rows}x" in label
            and ", fp8, " not in label
        ]
        if reached:
            best = max(reached)
            name = f"{target}, {rows} rows: INT8 {least} times FP16"
            goals[name] = {"times_fp16": best, "reached": best >= least}
    faster = {
        label: {key: entry[key] for key in ("faster", "times_fp16")}
        for label, entry in timed.items()
    }
    return {"faster": faster, "goals": goals}


def measure(run: Run, targets: list[str], models: list[str]) -> None:
    """Every step, in the order of the page: what is right first."""
    embedded = run.work / "model"
    run.step("does this device take TensorRT-RTX", gpu_rtx.takes_rtx)
    if not run.step("export embedded", partial(steps.plainly, qdeploy.export, EMBEDDED, embedded)):
        return
    judged = build_all(run, EMBEDDED, embedded, targets, STRATEGIES)
    judge_all(run, judged, embedded)
    targets = [name for name in targets if (name, "fp16") in judged]
    run.step("ceilings", partial(ceilings, SHAPES))
    load_all(run, judged)
    for name in models if targets else ():
        engines = judged
        if name != EMBEDDED:
            if not run.step(f"export {name}", partial(steps.export, run, name, embedded)):
                continue
            engines = build_all(run, name, run.work / name / "model", targets, STRATEGIES)
        time_all(run, name, engines)
    judge_all(run, build_all(run, EMBEDDED, embedded, targets, OTHERS), embedded)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="GLUE QNLI directory")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--minutes", type=float, default=9, help="start nothing after so many")
    parser.add_argument("--plan", action="store_true", help="print the steps, and do none")
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
    if args.plan:
        result: dict[str, Any] = {"steps": {}}
        measure(Run(result, Path("work"), args.data, 0, only_plan=True), targets, models)
        print(f"{len(result['steps'])} steps, where every target works; none was done.")
        return
    result = steps.beginning("python benchmarks/gpu.py")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(result, Path(folder), args.data, args.minutes)
        measure(run, targets, models)
    run.write(verdicts(result))
    print(f"{run.path}")
    if not any(label.startswith("time") for label in result["steps"]):
        print("No GPU target works here: the steps and the doctor say why.")


if __name__ == "__main__":
    main()
