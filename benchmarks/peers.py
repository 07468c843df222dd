"""qdeploy against its peers: latency, accuracy, size and cost of calibration, side by side.

    python benchmarks/peers.py --data DIR

DIR is a GLUE QNLI directory. Latency on the BERT-base shape (random weights: it does not depend on
them, but for what `peg` treats, so once with planted outlier channels too) and on the embedded
model; accuracy on the embedded model. Peers are installed into environments of their own
(peers_builders.py) on the first run. Writes benchmarks/results/peers-DATE.json, where the sections
of one day are joined.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, keep, processor  # benchmarks/machine.py
from peers_builders import BUILDERS, FORMATS, build_peer  # benchmarks/peers_builders.py
from peers_cost import calibration, footprint  # benchmarks/peers_cost.py
from peers_traffic import traffic  # benchmarks/peers_traffic.py
from runners import RUNNERS, THREADS, Runner, interleaved  # benchmarks/runners.py
from shapes import random_bert  # benchmarks/shapes.py

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import QDeployWarning
from qdeploy.sqnr import logit_sqnr_db

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SECTIONS = "base,outliers,embedded,traffic,accuracy,calibration,footprint"
TOKENS = 128  # of a row of QNLI, in calibration and evaluation
SHAPES = ((1, 128), (8, 128), (1, 384), (32, 128))
OURS = {
    "qdeploy-w8a8-ort-cpu": {"strategy": "w8a8"},
    "qdeploy-peg-ort-cpu": {"strategy": "peg"},
    "qdeploy-peg-ort-cpu-1x128": {"strategy": "peg", "opt_shape": "1x128"},
    "qdeploy-w8a8-openvino": {"strategy": "w8a8", "target": "openvino"},
    "qdeploy-peg-openvino": {"strategy": "peg", "target": "openvino"},
    "qdeploy-peg-ort-cpu-padded": {"strategy": "peg", "padding": "kept"},
    "qdeploy-peg-openvino-padded": {"strategy": "peg", "target": "openvino", "padding": "kept"},
    "qdeploy-peg-openvino-bf16": {
        "strategy": "peg",
        "target": "openvino",
        "rest_precision": "bf16",
    },
}

ONLY: set[str] = set()  # names of --only; empty for all


def engines(
    model: Path, checkpoint: Path | str, data: Path, work: Path, rows: int, peers: Iterable[str]
) -> tuple[dict[str, Runner], dict[str, Any]]:
    """Everything that runs, or what `ONLY` names of it, by name, and what building each said."""
    statistics = qdeploy.calibrate(model, data=str(data), calibration_rows=rows, max_length=TOKENS)
    floats: dict[str, Callable[[], Runner]] = {
        "ort-fp32": lambda: RUNNERS["ort"](model / "model.onnx"),
        "openvino-fp32": lambda: RUNNERS["openvino"](model / "model.onnx"),
        "openvino-bf16": lambda: RUNNERS["openvino"](model / "model.onnx", rest="bf16"),
        "torch-fp32": lambda: RUNNERS["torch"](checkpoint),
        "torch-bf16": lambda: RUNNERS["torch"](checkpoint, rest="bf16"),
        "torch-fp32-compiled": lambda: RUNNERS["torch"](checkpoint, compiled=True),
        "torch-bf16-compiled": lambda: RUNNERS["torch"](checkpoint, rest="bf16", compiled=True),
    }
    opened = {name: open_() for name, open_ in floats.items() if name in (ONLY or floats)}
    built: dict[str, Any] = {}
    for peer in peers:
        built[peer] = build_peer(peer, model, checkpoint, data, rows, work / peer)
        if "error" not in built[peer]:
            path = Path(built[peer].pop("file"))
            kind = FORMATS[path.suffix]
            opened[peer] = RUNNERS[kind](path)
            if kind == "openvino" and "bf16" in processor():  # what it takes by itself then
                opened[f"{peer}-bf16"] = RUNNERS[kind](path, rest="bf16")
    for name, options in OURS.items():
        if name not in (ONLY or OURS):
            continue
        report = qdeploy.build(model, work / name, statistics=statistics, **options)
        opened[name] = RUNNERS["qdeploy"](work / name)
        built[name] = {"int8": {k: report["int8"][k] for k in ("planned", "executed")}}
        built[name]["plan"] = report["plan"]
    return opened, built


def latency(model: Path, opened: dict[str, Runner], shapes: Iterable[tuple[int, int]]) -> Any:
    """Median time of each engine at each shape, all interleaved; rows fill all tokens."""
    found = {}
    for batch, tokens in shapes:
        encoder = TextEncoder.from_directory(model)
        rng = np.random.default_rng(0)
        ids = rng.integers(1000, 20000, (batch, tokens))
        ones, zeros = np.ones_like(ids), np.zeros_like(ids)
        known = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
        feeds = {name: known[name] for name in encoder.input_names}
        found[f"{batch}x{tokens}"] = interleaved(opened, feeds)
        print(f"{batch}x{tokens}", found[f"{batch}x{tokens}"], file=sys.stderr, flush=True)
    return found


def accuracy(model: Path, opened: dict[str, Runner], data: Path) -> dict[str, Any]:
    """Accuracy and logit SQNR of each engine on every row of dev.tsv."""
    rows = read_rows(data, split="evaluation")
    encoder = TextEncoder.from_directory(model)
    encoded = encoder.encode(rows, max_length=TOKENS)
    classes = json.loads((model / "qdeploy.json").read_text("utf-8"))["labels"]
    assert rows.labels is not None
    gold = np.array([classes.index(label) for label in rows.labels])
    logits = {}
    for name, runner in opened.items():
        result = np.zeros((len(rows), 2), np.float32)
        for batch in encoder.batches(encoded, 32):
            result[batch.index] = runner(batch.feeds)
        logits[name] = result
        print(name, float((result.argmax(1) == gold).mean()), file=sys.stderr, flush=True)
    exact = logits["ort-fp32"].astype(np.float64)
    return {
        name: {
            "accuracy": float((found.argmax(1) == gold).mean()),
            "sqnr_db": logit_sqnr_db([(exact, found)], exclusive=True)
            if name != "ort-fp32"
            else None,
        }
        for name, found in logits.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--sections", default=SECTIONS)
    parser.add_argument("--shapes", default=",".join(f"{b}x{s}" for b, s in SHAPES))
    parser.add_argument("--peers", default=",".join(BUILDERS), help="comma-separated")
    parser.add_argument("--runs", type=int, default=3, help="of the traffic")
    parser.add_argument("--only", default="", help="comma-separated: engines of ours, and floats")
    args = parser.parse_args()
    ONLY.update(name for name in args.only.split(",") if name)
    warnings.simplefilter("ignore", QDeployWarning)
    shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes.split(",") if shape]
    sections, peers = args.sections.split(","), [p for p in args.peers.split(",") if p]
    result = heading("python benchmarks/peers.py --data DIR", THREADS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        qdeploy.export("embedded", work / "embedded")
        for section in ("base", "outliers"):
            if section in sections:
                (work / section).mkdir()
                model = random_bert(
                    work / section, work / "embedded", outliers=section == "outliers"
                )
                chosen = [p for p in peers if section == "base" and p in BUILDERS]
                checkpoint = work / section / "checkpoint"
                opened, built = engines(model, checkpoint, args.data, work / section, 64, chosen)
                result[section] = {"built": built}
                if shapes:
                    result[section]["latency"] = latency(model, opened, shapes)
                if "traffic" in sections:
                    result[section]["traffic"] = traffic(model, opened, args.data, args.runs)
                del opened
        if "embedded" in sections or "accuracy" in sections:
            (work / "mini").mkdir()
            mini = work / "embedded", "embedded", args.data, work / "mini"
            opened, built = engines(*mini, 128, peers)
            result["embedded"] = {"built": built}
            if "embedded" in sections and shapes:
                result["embedded"]["latency"] = latency(work / "embedded", opened, shapes)
            if "embedded" in sections and "traffic" in sections:
                result["embedded"]["traffic"] = traffic(
                    work / "embedded", opened, args.data, args.runs
                )
            if "accuracy" in sections:
                result["embedded"]["accuracy"] = accuracy(work / "embedded", opened, args.data)
            del opened
        if "calibration" in sections:
            model, rows = work / "embedded", 512
            static = [peer for peer in peers if "static" in peer or "nncf" in peer]

            def build(peer: str, out: Path) -> dict[str, Any]:
                return build_peer(peer, model, "embedded", args.data, rows, out)

            result["calibration"] = calibration(model, args.data, work, rows, build, static)
        if "footprint" in sections:
            (work / "footprint").mkdir()
            model = random_bert(work / "footprint", work / "embedded", outliers=False)
            result["footprint"] = footprint(model, args.data, work / "footprint")
    result = keep(RESULTS / f"peers-{result['date']}.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
