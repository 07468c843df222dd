"""What shifts, compensated weights and measured sensitivity bring, and cost: SQNR and time.

    python benchmarks/rounding.py --data DIR [--limit N] [--every-activation]

DIR is a GLUE QNLI directory. Builds `peg` of the embedded model for both CPU targets, with and
without the options, and compares logits with FP32 on the rows of the dev set, all of them without
--limit. Times are of 8 × 128 full tokens, over those of the engine without options, one ratio for
each of three runs. With --every-activation the setting is that of arXiv 2603.04308 in place of
the default: --scope all, one scale for each weight, two groups; shifts have no place there, and
nothing is timed. Both write their section of benchmarks/results/rounding-DATE.json, but with
--limit.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, keep  # benchmarks/machine.py
from runners import RUNNERS, THREADS, interleaved  # benchmarks/runners.py

import qdeploy
from qdeploy.data.rows import Rows, read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.open import open_engine
from qdeploy.errors import QDeployWarning
from qdeploy.files.artifact import read_manifest
from qdeploy.sqnr import logit_sqnr_db

RESULTS = Path(__file__).parent / "results"
TARGETS = ("ort-cpu", "openvino")
TOKENS, BATCH, RUNS = 128, 32, 3
BOTH = {"shift": True, "weight_rounding": "compensated"}
ALL = BOTH | {"sensitivity": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "as built": {},
    "--cpu native": {"cpu": "native"},
    "--shift": {"shift": True},
    "--weight-rounding compensated": {"weight_rounding": "compensated"},
    "--sensitivity": {"sensitivity": True},
    "--shift and compensated": BOTH,
    "all three": ALL,
}

WHOLE: dict[str, Any] = {"scope": "all", "weights": "per-tensor", "groups": 2}
WHOLE_VARIANTS: dict[str, dict[str, Any]] = {
    f"{variant}, {scheme}": WHOLE | {"activations": scheme} | VARIANTS[variant]
    for scheme in ("asymmetric", "symmetric")
    for variant in ("as built", "--cpu native", "--weight-rounding compensated")
}


def logits_of(engine_dir: Path, rows: Rows) -> Any:
    """FP32 [N, classes] of an engine, in the order of the rows."""
    return outputs_of(open_engine(engine_dir, threads=2), engine_dir, rows)


def outputs_of(engine: Engine, directory: Path, rows: Rows) -> Any:
    """The same, with the tokenizer of a directory."""
    encoder = TextEncoder.from_directory(directory)
    encoded = encoder.encode(rows, max_length=TOKENS)
    found: dict[int, Any] = {}
    for batch in encoder.batches(encoded, BATCH):
        outputs = engine.run(batch.feeds)[engine.output_names[0]]
        found |= dict(zip(map(int, batch.index), outputs, strict=True))
    return np.array([found[at] for at in range(len(found))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="GLUE QNLI directory")
    parser.add_argument("--limit", type=int, help="rows; all without it")
    parser.add_argument("--every-activation", action="store_true", help="in the paper's setting")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    rows = read_rows(args.data, split="evaluation")
    rows = rows if args.limit is None else rows.take(args.limit)
    every = args.every_activation
    command = "python benchmarks/rounding.py --data DIR [--every-activation]"
    result = heading(command, THREADS) | {"rows": len(rows)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, fp32 = folder / "model", folder / "fp32"
        qdeploy.export("embedded", model)
        statistics = qdeploy.calibrate(
            model, data=args.data, max_length=TOKENS, second_moments=True, sensitivity=True
        )
        given = {
            name: options | {"statistics": statistics}
            for name, options in (WHOLE_VARIANTS if every else VARIANTS).items()
        }
        qdeploy.build(model, fp32, strategy="fp32")
        exact, names = logits_of(fp32, rows), read_manifest(fp32, "engine")["labels"]
        labels = np.array([names.index(str(label)) for label in rows.labels or ()])
        if every:
            found = compared(model, exact, labels, rows, "ort-cpu", given, timed=False)
            result["every_activation"] = found
        else:
            result["engines"] = {
                target: compared(model, exact, labels, rows, target, given, timed=True)
                for target in TARGETS
            }
    if args.limit is None:
        keep(RESULTS / f"rounding-{result['date']}.json", result)


def compared(
    model: Path,
    exact: Any,
    labels: Any,
    rows: Rows,
    target: str,
    variants: dict[str, dict[str, Any]],
    *,
    timed: bool,
) -> dict[str, Any]:
    """By variant what its engine loses against FP32's logits, and its time where that is asked."""
    engines, result = {}, {}
    for at, (variant, options) in enumerate(variants.items()):
        engines[variant] = model.parent / f"{target}-{at}"
        qdeploy.build(model, engines[variant], target=target, **options)
    for variant, engine in engines.items():
        found = logits_of(engine, rows)
        right = [100 * float((x.argmax(1) == labels).mean()) for x in (exact, found)]
        result[variant] = {
            "accuracy": round(right[1], 2),
            "sqnr_db": round(logit_sqnr_db([(exact, found)], exclusive=True), 2),
            "drop": round(right[0] - right[1], 2),
            "answers_that_change": int((found.argmax(1) != exact.argmax(1)).sum()),
        }
        if timed:
            result[variant]["time"] = ratios(engines, variant)
        print(target, variant, result[variant], flush=True)
    return result


def ratios(engines: dict[str, Path], variant: str) -> list[float]:
    """Time of a variant's engine over that of the first, one for each run."""
    first = next(iter(engines))
    opened = {name: RUNNERS["qdeploy"](engines[name]) for name in dict.fromkeys((first, variant))}
    ids = np.random.default_rng(0).integers(1000, 20000, (8, TOKENS))
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feeds = known | {"token_type_ids": np.zeros_like(ids)}
    times = [interleaved(opened, feeds) for _ in range(RUNS)]
    return [round(found[variant] / found[first], 3) for found in times]


if __name__ == "__main__":
    main()
