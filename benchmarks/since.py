"""What engines gained since a commit: `peg` of its code and of this, in alternating rounds.

    python benchmarks/since.py --data DIR [COMMIT]

DIR is a GLUE QNLI directory. Each side builds the embedded model and the BERT-base shape for both
CPU targets with its own code; the engines of both are opened by this one. Writes
benchmarks/results/since-DATE.json: times of this over those of COMMIT, one for each run, of
8 × 128 full tokens, and of rows one by one at their own lengths.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, keep  # benchmarks/machine.py
from peers_traffic import TOKENS, timed  # benchmarks/peers_traffic.py
from runners import RUNNERS, THREADS, interleaved  # benchmarks/runners.py

from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder

ROOT = Path(__file__).parents[1]
PADDING = "8d89705"  # the last commit whose engines compute all padding
TARGETS = {"ort-cpu": "ort", "openvino": "openvino"}  # and their runners
RUNS, ROWS = 3, 40
# Run by the code of either side, so it takes the options alone that both have.
BUILD = """
import sys, warnings
from pathlib import Path
root, out, data = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.path.insert(0, str(root / "benchmarks"))
import qdeploy
from shapes import random_bert
assert Path(qdeploy.__file__).is_relative_to(root), f"{qdeploy.__file__} is not of {root}"
warnings.simplefilter("ignore")
qdeploy.export("embedded", out / "embedded")
(out / "folder").mkdir()
models = {"embedded": out / "embedded"}
models["base"] = random_bert(out / "folder", out / "embedded", outliers=False)
for name, model in models.items():
    statistics = qdeploy.calibrate(model, data=data)
    for target in ("ort-cpu", "openvino"):
        engine = out / f"{name}-{target}"
        qdeploy.build(model, engine, strategy="peg", target=target, statistics=statistics)
"""


def build(root: Path, out: Path, data: Path) -> None:
    """Engines of both models for both targets, by the code of a working tree."""
    out.mkdir()
    command = [sys.executable, "-c", BUILD, *map(str, (root, out, data))]
    subprocess.run(command, check=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


def ratios(folder: Path, model: str, data: Path) -> dict[str, dict[str, list[float]]]:
    """Time of the new engine over that of the old one, by what was run and by target."""
    opened = {
        f"{target} {side}": RUNNERS[kind](folder / side / f"{model}-{target}" / "model.onnx")
        for target, kind in TARGETS.items()
        for side in ("old", "new")
    }
    encoder = TextEncoder.from_directory(folder / "new" / f"{model}-ort-cpu")
    ids = np.random.default_rng(0).integers(1000, 20000, (8, TOKENS))
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    full = {name: known.get(name, np.zeros_like(ids)) for name in encoder.input_names}
    rows = encoder.encode(read_rows(data, split="evaluation").take(ROWS), max_length=TOKENS)
    single = [batch.feeds for batch in encoder.batches(rows, 1, sort=False)]
    found: dict[str, dict[str, list[float]]] = {
        what: {target: [] for target in TARGETS} for what in ("8x128", "one row")
    }
    for _ in range(RUNS):
        times, speeds = interleaved(opened, full), timed(opened, single)
        for target in TARGETS:
            old, new = f"{target} old", f"{target} new"
            found["8x128"][target].append(round(times[new] / times[old], 3))
            by_row = speeds[old]["rows_per_s"] / speeds[new]["rows_per_s"]
            found["one row"][target].append(round(by_row, 3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", nargs="?", default=PADDING)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    result: dict[str, Any] = heading("python benchmarks/since.py --data DIR", THREADS)
    result["commit"] = args.commit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run(
            [*git, "add", "--quiet", "--detach", folder / "tree", args.commit], check=True
        )
        try:
            build(folder / "tree", folder / "old", args.data.resolve())
            build(ROOT, folder / "new", args.data.resolve())
        finally:
            subprocess.run([*git, "remove", "--force", folder / "tree"], check=True)
        for model in ("embedded", "base"):
            result[model] = ratios(folder, model, args.data)
            print(model, result[model], flush=True)
    keep(ROOT / "benchmarks" / "results" / f"since-{result['date']}.json", result)


if __name__ == "__main__":
    main()
