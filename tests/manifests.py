"""Fields of manifests, for directories that tests write by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from qdeploy.files.artifact import MANIFEST, add_to_manifest, read_json, write_manifest

MODEL: Any = {
    "task": "sequence-classification",
    "labels": ["entailment", "not_entailment"],
    "model_type": "bert",
    "max_length": 128,
    "pad_token_id": 0,
    "inputs": ["input_ids", "attention_mask"],
    "outputs": ["logits"],
    "source": {"path": "checkpoint", "sha256": "0" * 64},
}
ENGINE: Any = MODEL | {
    "target": "ort-cpu",
    "strategy": "w8a8",
    "scope": "gemm",
    "opt_shape": [8, 128],
    "rest_precision": "f32",
}


def sign(directory: Path) -> None:
    """Write a directory's manifest again, for the files as they are now."""
    found = read_json(directory / MANIFEST)
    write_manifest(directory, found["kind"], found)


def fields(kind: str, **others: Any) -> Any:
    """What a manifest of this kind says beside its files; `others` join or replace."""
    return {"model": MODEL, "engine": ENGINE}[kind] | others


def edit(directory: Path, kind: Literal["model", "engine"], **others: Any) -> None:
    """Change fields of a manifest as qdeploy itself does."""
    add_to_manifest(directory, kind, others)
