"""Peers are built in environments of their own: each quantizes the same model on the same rows."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from runners import transformers_model  # benchmarks/runners.py

from qdeploy.calibrate.run import BATCH_TOKENS
from qdeploy.data.rows import Rows, sample_rows
from qdeploy.data.tokenize import TextEncoder

HERE = Path(__file__).parent
TOKENS = 128  # of a row of QNLI
# Peer → environment that builds it; what is installed there: <name>-requirements.txt.
BUILDERS = {
    "ort-dynamic": ".venv-peers",
    "ort-dynamic-fused": ".venv-sentence",  # its optimizer imports torch
    "ort-static-minmax": ".venv-peers",
    "ort-static-percentile": ".venv-peers",
    "ort-static-entropy": ".venv-peers",
    "openvino-nncf": ".venv-peers",
    "optimum": ".venv-sentence",
    "sentence-onnx-dynamic": ".venv-sentence",
    "sentence-openvino-static": ".venv-sentence",
    "torchao-inductor-static": ".venv-torchao",
}
# The runner of what a peer builds, by its file's ending.
FORMATS = {".onnx": "ort", ".xml": "openvino", ".pt2": "inductor"}
# Their histograms are stacked over batches, which fails where these have several lengths.
ONE_SHAPE = ("ort-static-percentile", "ort-static-entropy")
TORCH = "torch==2.13.0"  # installed first: pip then takes the index's build for CPUs


def python_of(environment: str) -> Path:
    """The interpreter of an environment, installed where it is not yet, or is another by now."""
    home = HERE.parent / environment
    python, done = home / "bin" / "python", home / "installed"
    listed = HERE / f"{environment.removeprefix('.venv-')}-requirements.txt"
    wanted = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not done.is_file() or done.read_text("utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        if TORCH in listed.read_text("utf-8").split():
            subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, "-r", listed], check=True)
        done.write_text(wanted, "utf-8")
    return python


def save_feeds(encoder: TextEncoder, sample: Rows, path: Path, *, fixed: bool) -> None:
    """Calibration batches for the peers: rows, lengths and batches as qdeploy calibrates.

    Args:
        fixed: batches of [8, 128] all, for calibrators that take one shape only.
    """
    encoded = encoder.encode(sample, max_length=TOKENS)
    size = {"batch_size": 8, "pad_to": TOKENS} if fixed else {"batch_size": len(sample)}
    batches = encoder.batches(encoded, **size, max_tokens=None if fixed else BATCH_TOKENS)
    arrays = {f"{at}/{k}": v for at, batch in enumerate(batches) for k, v in batch.feeds.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def save_rows(sample: Rows, folder: Path) -> None:
    """The rows as text, both texts of a pair in one, for what tokenizes by itself."""
    folder.mkdir()
    second = sample.second or ("",) * len(sample)
    texts = (f"{first} {other}".strip() for first, other in zip(sample.first, second, strict=True))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "train.jsonl").write_text(lines, "utf-8")


def save_checkpoint(checkpoint: Path | str, model: Path, folder: Path) -> None:
    """A checkpoint as transformers saves it, with the tokenizer of a model directory."""
    transformers_model(checkpoint).save_pretrained(folder)
    for path in model.glob("*token*.json"):
        (folder / path.name).write_bytes(path.read_bytes())


def build_peer(
    peer: str, model: Path, checkpoint: Path | str, data: Path, rows: int, out: Path
) -> dict[str, Any]:
    """Run peers_build.py in the peer's environment; {"error"} where it fails."""
    encoder, sample = TextEncoder.from_directory(model), sample_rows(data, rows, 0)
    out.mkdir()
    save_feeds(encoder, sample, out / "feeds.npz", fixed=peer in ONE_SHAPE)
    save_rows(sample, out / "rows")
    save_checkpoint(checkpoint, model, out / "checkpoint")
    return run_builder(peer, model, out / "checkpoint", out)


def run_builder(peer: str, model: Path, checkpoint: Path, out: Path) -> dict[str, Any]:
    """The same, of rows that `out` holds already."""
    script = HERE / "peers_build.py"
    command = [python_of(BUILDERS[peer]), script, peer, model, checkpoint, out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": lines[-1][:300] if lines else f"exit code {done.returncode}"}
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
