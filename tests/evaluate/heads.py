"""Tiny BERTs with any head: what transformers' pipelines say of them is what engines must say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

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


class Traces:
    """In place of export's `trace`: models of the same weights are traced once.

    What config.json says of a head is not in the graph, and export holds each graph it gets
    against the very model that it exports.
    """

    def __init__(self, trace: Callable[..., ir.Model]) -> None:
        self._trace = trace
        self._kept: dict[str, bytes] = {}

    def __call__(self, model: Any, *arguments: Any, **options: Any) -> ir.Model:
        about = (type(model).__name__, [list(names) for names in arguments], options)
        digest = hashlib.sha256(repr(about).encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        key = digest.hexdigest()
        if key not in self._kept:
            traced = self._trace(model, *arguments, **options)
            self._kept[key] = ir.to_proto(traced).SerializeToString()
        return ir.from_proto(onnx.ModelProto.FromString(self._kept[key]))


def engine_of(checkpoint: Path, home: Path) -> Path:
    """Its FP32 engine, so that nothing but the reading of the logits can differ."""
    qdeploy.export(checkpoint, home / "model")
    qdeploy.build(home / "model", home / "engine", strategy="fp32")
    return home / "engine"
