"""The result of benchmarks/gpu.py as it grows, and its steps on one engine."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from machine import heading  # benchmarks/machine.py
from shapes import random_bert  # benchmarks/shapes.py

import qdeploy
from qdeploy.deploy.cuda import device, require_fp8
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import QDeployError, TargetError
from qdeploy.files.artifact import write_json

RESULTS = Path(__file__).parent / "results"
BUILT_FOR: dict[str, Any] = {"opt_shape": "32x128", "max_shape": "128x128"}
STRATEGIES: dict[str, dict[str, Any]] = {
    "fp16": {"strategy": "fp16"},
    "w8a8": {"strategy": "w8a8"},
    "w8a8-residuals": {"strategy": "w8a8", "int8_residuals": True},
    "fp8": {"strategy": "fp8"},
    "peg": {"strategy": "peg"},  # takes the form that is measured to be the fastest
}
ROWS = 64  # calibration rows
TOKENS = 128  # of a row of QNLI, in calibration and evaluation
THREADS = os.cpu_count() or 2
PACKAGES = (
    *("onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "cuda-bindings"),
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
)
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,power.limit,clocks.max.sm", "--format=csv")


class Run:
    """The result as it grows, and the time that is left.

    Attributes:
        result: what is written.
        path: where to.
        work: folder for engines.
        data: of accuracy and calibration.
        only_plan: whether steps are named, and nothing is done or written.
    """

    def __init__(
        self,
        result: dict[str, Any],
        work: Path,
        data: str | None,
        minutes: float,
        *,
        only_plan: bool = False,
    ):
        self.result, self.work, self.data, self.only_plan = result, work, data, only_plan
        self.path = RESULTS / f"gpu-{datetime.datetime.now():%Y-%m-%dT%H%M}.json"
        self._end = time.monotonic() + 60 * minutes

    def step(self, label: str, work: Callable[[], dict[str, Any]]) -> bool:
        """Do a step and write its entry; whether it went well.

        Whatever goes wrong is the entry, as the steps after it may go well; so is the lack of time,
        and what a step gives as the reason not to run ("not_run").
        """
        entry = self.result["steps"].setdefault(label, {})
        if self.only_plan:
            print(label)
            return True
        began = time.monotonic()
        try:
            entry |= work() if began < self._end else {"not_run": "no time was left"}
        except QDeployError as error:
            entry["error"] = str(error)
        except Exception as error:
            entry["error"] = f"{type(error).__name__}: {error}"
            entry["at"] = traceback.format_exc()[-800:]
        entry["seconds"] = round(time.monotonic() - began, 1)
        self.write({})
        print(label, json.dumps(entry)[:400], flush=True)
        return not {"error", "not_run"} & set(entry)

    def write(self, more: dict[str, Any]) -> None:
        """Write the result, with more fields."""
        self.result |= more
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, self.result)


def beginning(command: str) -> dict[str, Any]:
    """Date, machine, device, driver and versions, and what the doctor says."""
    found = heading(command, 2)
    for name in PACKAGES:
        try:
            found["versions"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        said = subprocess.run(_SMI, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = str(error)
    return found | {"nvidia_smi": said.splitlines(), "doctor": qdeploy.doctor(), "steps": {}}


def build(run: Run, model: Path, engine: Path, target: str, strategy: str) -> dict[str, Any]:
    """Build for the largest shape; what the builder said of forms and of kernels."""
    if strategy == "fp8" and (reason := without_fp8()):
        return {"not_run": reason}
    takes = find_target(target).takes
    given = dict(BUILT_FOR) if "max_shape" in takes else {}
    given |= STRATEGIES.get(strategy, {"strategy": strategy})
    if "timing_cache" in takes:
        given |= {"timing_cache": run.work / f"{target}.cache"}
    if "compute_capability" in takes:
        given |= {"compute_capability": device()["compute_capability"]}
    if strategy != "fp16":
        given |= {"data": run.data, "calibration_rows": ROWS, "max_length": TOKENS}
    built = qdeploy.build(model, engine, target=target, **given)
    found = {key: built.get(key) for key in ("size_mb", "forms", "builder")}
    compiled = without_gemms(built.get("compiled"))
    return found | {"int8": without_gemms(built["int8"]), "compiled": compiled}


def without_fp8() -> str:
    """Why this device multiplies no FP8; nothing where it does."""
    try:
        require_fp8()
    except TargetError as error:
        return str(error)
    return ""


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
    """Of one shape, against FP16 in alternating rounds, and which of the two is faster."""
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
    found |= {
        f"fp16_{key}": report["baseline"][key] for key in ("latency_ms", "device_ms", "memory_mb")
    }
    own, fp16 = found["device_ms"]["p50"], found["fp16_device_ms"]["p50"]
    verdict = {"times_fp16": fp16 / own, "faster": "this engine" if own < fp16 else "FP16"}
    return found | verdict


def without_gemms(int8: dict[str, Any] | None) -> dict[str, Any]:
    """A certificate without the list of every GEMM."""
    return {key: value for key, value in (int8 or {}).items() if key != "gemms"}


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
