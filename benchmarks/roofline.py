"""Estimates of latency beside NVIDIA's published figures; nothing here is measured.

    python benchmarks/roofline.py [--fit]

No GPU and no network; TensorRT-RTX must be installed. The published figures are those of demoBERT
(BERT base, benchmarks/demobert.json). Three parts:

1. demoBERT's kernels, taken to be seven a layer with every tensor of an INT8 engine in INT8: how
   far the estimates are from what was published, by device. Three parameters are fitted to the A100
   alone (--fit does it again, and prints them). The form of the model was chosen with the errors of
   all five devices in view, so those of the other four are smaller than a forecast's would be.
2. Engines of BERT base's shape, random weights, as this package lowers and TensorRT-RTX compiles
   them: what is beyond part 1 is another graph (more kernels, attention and residuals in FP16).
3. Estimates for docs/gpu.md.

Writes benchmarks/results/roofline-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from machine import heading, keep  # benchmarks/machine.py
from shapes import SIZES, random_bert  # benchmarks/shapes.py

import qdeploy
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.roofline.devices import device_named
from qdeploy.deploy.roofline.estimate import FITTED, Shares, estimate
from qdeploy.deploy.roofline.geometry import Product, Work, works
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.proof import compile_graph
from qdeploy.errors import QDeployWarning
from qdeploy.files.artifact import read_manifest

HERE = Path(__file__).parent
FIT = "A100"
WHAT = (
    "estimates; nothing is measured. Three parameters are fitted to the A100; the form of the model"
    " (launch in cycles, softmax beside the products, no run faster than at the base clock) and the"
    " two round parameters were chosen with the errors of all five devices in view"
)
FREE = ("gemm", "score_cycles", "launch_cycles")
STRATEGIES = {"int8": "w8a8", "fp16": "fp16"}  # a column of the published tables, and ours
TOLD = {
    "devices": ("RTX 3050", "RTX 4090", "L4", "A100"),
    "shapes": ((1, 128), (8, 128), (128, 128)),
    "strategies": ("fp16", "w8a8", "peg"),
}
BUILT_FOR: dict[str, Any] = {"opt_shape": "32x128", "max_shape": "128x384", "measure": False}
Case = tuple[str, int, int]  # precision, tokens, rows
Errors = dict[Case, float]


@cache
def published() -> dict[str, dict[Case, float]]:
    """Latency by device, ms."""
    devices = json.loads((HERE / "demobert.json").read_text("utf-8"))["devices"]
    return {
        name: {
            (precision, tokens, rows): ms
            for tokens, rows, *times in entry["latency_ms"]
            for precision, ms in zip(("int8", "fp16"), times, strict=True)
        }
        for name, entry in devices.items()
    }


@cache
def demobert(precision: str, tokens: int, rows: int) -> list[Work]:
    """demoBERT's kernels as they are taken to be, after the plugins that its README names.

    Every tensor between them has the precision of the products. No engine of it was looked at.
    """
    width = 1 if precision == "int8" else 2
    hidden, layers, heads, inner = SIZES["base"]
    lines = rows * tokens

    def product(n: int, k: int) -> Work:
        moved = lines * (n + k) * width
        return Work("gemm", "gemm", precision, (Product(1, lines, n, k),), moved, n * k * width)

    across = Product(rows * heads, tokens, tokens, hidden // heads)
    back = Product(rows * heads, tokens, hidden // heads, tokens)
    size = lines * hidden * width
    attention = Work("attention", "attention", precision, (across, back), 4 * size, 0)
    norm = Work("skip + norm", "other", "", (), 3 * size, 0)
    layer = [product(3 * hidden, hidden), attention, product(hidden, hidden), norm]
    layer += [product(inner, hidden), product(hidden, inner), norm]
    return [norm, *layer * layers, product(2, hidden)]


def errors(device: str, engines: Mapping[str, str] | None, shares: Shares = FITTED) -> Errors:
    """Estimate over published, minus 1.

    Args:
        engines: layers by precision; demoBERT's own kernels where there are none.
    """
    found = {}
    for (precision, tokens, rows), ms in published()[device].items():
        if engines is None:
            work = demobert(precision, tokens, rows)
        else:
            work = works(engines[precision], rows, tokens)
        estimated = estimate(work, device_named(device), shares).ms
        found[precision, tokens, rows] = estimated / ms - 1
    return found


def fit() -> Shares:
    """The free parameters that bring the A100's estimates nearest, by descent along each."""

    def distance(shares: Shares) -> float:
        return sum(math.log1p(error) ** 2 for error in errors(FIT, None, shares).values())

    best, step = replace(FITTED, gemm=0.7, score_cycles=0.3, launch_cycles=4000), 1.2
    least = distance(best)
    while step > 1.005:
        tried = [
            replace(best, **{name: min(getattr(best, name) * by, 0.95 if name == "gemm" else 1e9)})
            for name in FREE
            for by in (step, 1 / step)
        ]
        nearest = min(tried, key=distance)
        if distance(nearest) < least:
            best, least = nearest, distance(nearest)
        else:
            step = math.sqrt(step)
    return best


def told(label: str, found: Errors, device: str) -> dict[str, Any]:
    """Every row, the median and the largest; all are errors of estimates.

    By precision the median with its sign: above 0 the estimate is slower than what was published.
    """
    rows = []
    for (precision, tokens, batch), error in found.items():
        ms = published()[device][precision, tokens, batch]
        rows.append([precision, tokens, batch, ms, round(ms * (1 + error), 3), round(error, 3)])
    sizes = [abs(error) for error in found.values()]
    result: dict[str, Any] = {
        "median_error": round(median(sizes), 3),
        "largest_error": round(max(sizes), 3),
        "signed_median": {
            precision: round(median(e for key, e in found.items() if key[0] == precision), 3)
            for precision in ("int8", "fp16")
        },
    }
    print(f"\n{label}, {device}: precision, tokens, rows, published ms, estimate ms, error")
    for row in rows:
        print("  {:5} {:4} {:4} {:8.2f} {:8.2f} {:+6.0%}".format(*row))
    print(
        f"  median {result['median_error']:.0%}, largest {result['largest_error']:.0%}",
        end=", signed ",
    )
    print(result["signed_median"])
    columns = ["precision", "tokens", "rows", "published_ms", "estimated_ms", "error"]
    return result | {"columns": columns, "rows": rows}


def compiled(model: Path, work: Path, strategy: str, **options: Any) -> dict[str, str]:
    """Layers of an engine by compute capability."""
    given = {} if strategy == "fp16" else {"calibration_rows": 32}
    engine = work / f"{strategy}-{len(list(work.iterdir()))}"
    options |= BUILT_FOR | given | {"target": "tensorrt", "dry_run": True, "strategy": strategy}
    qdeploy.build(model, engine, **options)
    manifest = read_manifest(engine, "engine")
    how = CompileOptions(max_shape=BUILT_FOR["max_shape"])
    return {
        capability: compile_graph(engine, manifest, how, (capability,))
        for capability in ("7.5", "8.0", "8.6", "8.9")
    }


def compared(model: Path, work: Path) -> dict[str, Any]:
    """Our engines of BERT base's shape beside the published figures; nothing is left out in them.

    demoBERT computes every token of the last layer.
    """
    layers = {
        precision: compiled(model, work, strategy, padding="kept")
        for precision, strategy in STRATEGIES.items()
    }
    found = {}
    for device in published():
        capability = device_named(device).capability
        engines = {precision: by[capability] for precision, by in layers.items()}
        found[device] = told("our engines", errors(device, engines), device)
    return found


def estimates(model: Path, work: Path) -> dict[str, dict[str, dict[str, float]]]:
    """By strategy, shape and device, ms."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for strategy in TOLD["strategies"]:
        layers = compiled(model, work, str(strategy))
        for rows, tokens in TOLD["shapes"]:
            times = {}
            for name in TOLD["devices"]:
                device = device_named(str(name))
                work_of = works(layers[device.capability], rows, tokens)
                times[device.name] = round(estimate(work_of, device).ms, 3)
            found.setdefault(str(strategy), {})[f"{rows}x{tokens}"] = times
            print(strategy, f"{rows}x{tokens}", times, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="fit the parameters to the A100 again")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore", QDeployWarning)
    result = heading("python benchmarks/roofline.py", 2)
    result["versions"]["tensorrt-rtx"] = RTX.package().__version__
    result |= {"what": WHAT, "shares": asdict(FITTED), "fitted_to": FIT}
    if args.fit:
        result["fit"] = asdict(fit())
        print("fitted", result["fit"])
    result["demobert"] = {
        device: told("demoBERT's own kernels", errors(device, None), device)
        for device in published()
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        embedded = home / "embedded"
        qdeploy.export("embedded", embedded)
        base = random_bert(home, embedded, "base", outliers=True)
        engines = home / "engines"
        engines.mkdir()
        result["engines"] = compared(base, engines)
        result["estimates"] = {
            "embedded": estimates(embedded, engines),
            "base": estimates(base, engines),
        }
    keep(HERE / "results" / f"roofline-{result['date']}.json", result)


if __name__ == "__main__":
    main()
