"""How much of a drop in accuracy is chance: the logits' noise drawn anew, on the same rows.

    python benchmarks/chance.py --data DIR [--limit N] [--only NAME --only NAME …]

DIR is a GLUE QNLI directory. An engine's noise flips the rows whose margin (difference of the two
logits) is small; which of them are right with FP32 is luck. Per engine: the drop that was measured,
and mean and spread of the drop when each row gets the noise of another row drawn at random among
those with a small margin, once as it is and once without its mean (the bias that it has). Beside
them what Gaussian noise of some sizes would cost on average.
Writes benchmarks/results/chance-DATE.json, but with --limit.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, keep  # benchmarks/machine.py
from rounding import ALL  # benchmarks/rounding.py

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.data.tasks import find_task
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate.accuracy import Judged, predict_rows
from qdeploy.evaluate.loaded_engine import load_engine

RESULTS = Path(__file__).parent / "results"
SMALL = 1.0  # margin of the rows whose noise is drawn from
DRAWS = 2000
STDS = (0.16, 0.12, 0.08, 0.06, 0.04, 0.02, 0.01)  # of the noise of a margin
TOKENS = 128  # of a row, as arXiv 2603.04308 evaluates QNLI
ENGINES: dict[str, dict[str, Any]] = {
    "w8a8": {"strategy": "w8a8"},
    "peg": {"strategy": "peg"},
    "peg --cpu native": {"strategy": "peg", "cpu": "native"},
    "peg --shift": {"strategy": "peg", "shift": True},
    "peg --weight-rounding compensated": {"strategy": "peg", "weight_rounding": "compensated"},
    "peg --sensitivity": {"strategy": "peg", "sensitivity": True},
    "peg, all three": {"strategy": "peg"} | ALL,
    "peg, all three, --noise-target 36": {"strategy": "peg", "noise_target": 36} | ALL,
    "peg, symmetric": {"strategy": "peg", "activations": "symmetric"},
    "peg, openvino": {"strategy": "peg", "target": "openvino"},
    "peg, all three, openvino": {"strategy": "peg", "target": "openvino"} | ALL,
}


def margin(judged: Judged) -> Any:
    """FP64 [N]: second logit less the first."""
    return judged.logits[:, 1].astype(np.float64) - judged.logits[:, 0]


def chance(base: Judged, found: Judged, rng: np.random.Generator) -> dict[str, float]:
    """Measured drop in points, and what drawn noise gives."""
    exact, gold = margin(base), base.gold
    noise = margin(found) - exact
    near = noise[np.abs(exact) < SMALL]
    right = ((exact > 0) == gold).mean()

    def drops(pool: Any) -> Any:
        draws = (rng.choice(pool, len(exact)) for _ in range(DRAWS))
        return np.array([right - ((exact + drawn > 0) == gold).mean() for drawn in draws])

    as_it_is, centred = drops(near), drops(near - near.mean())
    return {
        "drop": 100 * float(right - ((margin(found) > 0) == gold).mean()),
        "noise_mean": float(near.mean()),
        "noise_std": float(near.std()),
        "drawn_mean": 100 * float(as_it_is.mean()),
        "drawn_std": 100 * float(as_it_is.std()),
        "unbiased_mean": 100 * float(centred.mean()),
        "unbiased_std": 100 * float(centred.std()),
    }


def drop_of(base: Judged, std: float) -> float:
    """Points that Gaussian noise of no mean loses on average, in closed form."""
    exact = margin(base)
    flips = np.array([math.erfc(abs(x) / (std * math.sqrt(2))) / 2 for x in exact])
    return 100 * float((np.where((exact > 0) == base.gold, 1, -1) * flips).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--limit", type=int, help="rows; all without it")
    parser.add_argument("--only", action="append", choices=ENGINES, help="engines; all without it")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    rows, task = read_rows(args.data), find_task("qnli")
    rows = rows if args.limit is None else rows.take(args.limit)
    rng = np.random.default_rng(0)
    command = "python benchmarks/chance.py --data DIR"
    command += "".join(f" --only '{name}'" for name in args.only or ())
    result = heading(command, 2)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        qdeploy.export("embedded", work / "model")
        statistics = qdeploy.calibrate(
            work / "model",
            data=str(args.data),
            max_length=TOKENS,
            second_moments=True,
            sensitivity=True,
        )
        qdeploy.build(work / "model", work / "fp32", strategy="fp32")
        base = predict_rows(
            load_engine(work / "fp32", 2), rows, task, max_length=TOKENS, batch_size=32
        )
        result["rows"], result["engines"] = len(rows), {}
        result["gaussian"] = {str(std): drop_of(base, std) for std in STDS}
        print(result["gaussian"], flush=True)
        for at, name in enumerate(args.only or ENGINES):
            engine = work / str(at)
            qdeploy.build(work / "model", engine, statistics=statistics, **ENGINES[name])
            found = predict_rows(
                load_engine(engine, 2), rows, task, max_length=TOKENS, batch_size=32
            )
            result["engines"][name] = chance(base, found, rng)
            print(name, result["engines"][name], flush=True)
            if args.limit is None:
                keep(RESULTS / f"chance-{result['date']}.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
