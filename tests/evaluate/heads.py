"""Tiny BERTs with any head: what transformers' pipelines say of them is what engines must say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdeploy
from tests.tiny import INNER, no_progress_bar, tiny_config, tiny_tokenizer

SIZES = (32, 64)
PAIRS = [
    ("the river", "north year"),
    ("king", "what is the war of the city"),
    ("who was first", "music and light in the old city, and the king of the south"),
]


def head_checkpoint(
    directory: Path, labels: Sequence[str], *, auto: str = "Sequence", hidden: int = 32, **said: Any
) -> Path:
    """A random BERT whose logits differ clearly from row to row.

    Args:
        labels: class names by index.
        auto: the head: AutoModelFor…Classification.
        said: what config.json is to say beside that.
    """
    import torch
    import transformers

    config = tiny_config("bert")
    names = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    sizes = {"hidden_size": hidden, "intermediate_size": hidden * INNER // 32}
    for key, value in (names | sizes | said).items():
        setattr(config, key, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(labels))
        model: Any = getattr(transformers, f"AutoModelFor{auto}Classification").from_config(config)
        model.classifier.weight.data *= 4
    with no_progress_bar():
        model.save_pretrained(directory)
    tiny_tokenizer("bert").save_pretrained(directory)
    return directory


def engine_of(checkpoint: Path, home: Path) -> Path:
    """Its FP32 engine, so that nothing but the reading of the logits can differ."""
    qdeploy.export(checkpoint, home / "model")
    qdeploy.build(home / "model", home / "engine", strategy="fp32")
    return home / "engine"
