"""Accuracy of the GPU targets' graphs without a GPU: run on the CPU, on every QNLI row.

    python benchmarks/simulated.py --data DIR [--only NAME --only NAME …]

DIR is a GLUE QNLI directory. Builds dry runs of the embedded model, runs them as `qdeploy eval
--simulate` does, and compares with FP32. Says nothing about speed. Writes
benchmarks/results/simulated-DATE.json. `--only` names rows; the others are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from machine import heading, keep  # benchmarks/machine.py

import qdeploy
from qdeploy.errors import QDeployWarning

TOKENS = 128  # of a row, as arXiv 2603.04308 evaluates QNLI
RESULTS = Path(__file__).parent / "results"
ENGINES: dict[str, dict[str, Any]] = {
    "fp16, tensorrt": {"strategy": "fp16"},
    "fp8, tensorrt": {"strategy": "fp8"},
    "w8a8, tensorrt": {"strategy": "w8a8"},
    "peg, tensorrt": {"strategy": "peg"},
    "peg with groups alone, tensorrt": {"strategy": "peg", "prescale": "none"},
    "w8a8 with int8 residuals, tensorrt": {"strategy": "w8a8", "int8_residuals": True},
    "peg, ort-cuda": {"strategy": "peg", "target": "ort-cuda"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="GLUE QNLI directory")
    parser.add_argument("--only", action="append", choices=ENGINES, help="rows; all without it")
    args = parser.parse_args()
    chosen = args.only or list(ENGINES)
    warnings.simplefilter("ignore", QDeployWarning)
    command = "python benchmarks/simulated.py --data DIR"
    command += "".join(f" --only '{name}'" for name in args.only or ())
    result = heading(command, 2) | {"engines": {}}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        qdeploy.export("embedded", work / "model")
        statistics = qdeploy.calibrate(work / "model", data=args.data, max_length=TOKENS)
        qdeploy.build(work / "model", work / "fp32", strategy="fp32")
        for at, name in enumerate(chosen):
            options = ENGINES[name]
            given = {} if options["strategy"] == "fp16" else {"statistics": statistics}
            engine, options = work / str(at), {"target": "tensorrt"} | options
            qdeploy.build(work / "model", engine, dry_run=True, **given, **options)
            report = qdeploy.evaluate(
                engine,
                data=args.data,
                baseline=work / "fp32",
                simulate=True,
                max_length=TOKENS,
                batch_size=32,
            )
            found = {key: report["baseline"][key] for key in ("drop", "mcnemar_p", "sqnr_db")}
            result["engines"][name] = {"accuracy": report["metrics"]["accuracy"]} | found
            print(name, result["engines"][name], flush=True)
    keep(RESULTS / f"simulated-{result['date']}.json", result)
    print(json.dumps(result["engines"], indent=1))


if __name__ == "__main__":
    main()
