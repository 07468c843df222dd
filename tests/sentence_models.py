"""Tiny embedding models, laid out as sentence-transformers saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.families import HIDDEN
from tests.tiny import no_progress_bar, plant_outliers, tiny_config, tiny_tokenizer

_CLASSES = "sentence_transformers.models"
OUTPUTS = 24  # of a Dense layer


def sentence_checkpoint(
    directory: Path,
    family: str = "bert",
    *,
    pooling: str | Mapping[str, Any] = "mean",
    parts: Sequence[str] = ("Normalize",),
    hidden: int = HIDDEN,
    settings: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    tanh: str = "torch.nn.modules.activation.Tanh",
) -> Path:
    """Write an embedding model into `directory` and return it.

    Args:
        family: a name of `tests.families`.
        pooling: a mode, or the content of the pooling's config.json.
        parts: behind the pooling: Dense, LayerNorm, Normalize, Dropout.
        hidden: channels.
        settings: of sentence_bert_config.json.
        more: of config_sentence_transformers.json.
        tanh: activation function of the Dense layer.
    """
    import torch
    import transformers
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]), no_progress_bar():
        torch.manual_seed(0)
        model: Any = transformers.AutoModel.from_config(tiny_config(family, hidden=hidden))
        plant_outliers(model)
        model.save_pretrained(directory)
        weights = {
            "Dense": {"linear.weight": torch.randn(OUTPUTS, hidden) / hidden**0.5,
                      "linear.bias": torch.randn(OUTPUTS) / 4},
            "LayerNorm": {"norm.weight": torch.rand(hidden) + 0.5, "norm.bias": torch.rand(hidden)},
        }  # fmt: skip
    tiny_tokenizer(family).save_pretrained(directory)
    configs: dict[str, dict[str, Any]] = {
        "Pooling": {"word_embedding_dimension": hidden, "pooling_mode": pooling}
        if isinstance(pooling, str)
        else dict(pooling),
        "Dense": {"in_features": hidden, "out_features": OUTPUTS, "bias": True,
                  "activation_function": tanh},
        "LayerNorm": {"dimension": hidden},
    }  # fmt: skip
    listed = [{"idx": 0, "name": "0", "path": "", "type": f"{_CLASSES}.Transformer"}]
    for at, kind in enumerate(("Pooling", *parts), 1):
        folder = directory / f"{at}_{kind}"
        folder.mkdir()
        if kind in configs:
            (folder / "config.json").write_text(json.dumps(configs[kind]), "utf-8")
        if kind in weights:
            save_file(weights[kind], folder / "model.safetensors")
        path = {"path": folder.name, "type": f"{_CLASSES}.{kind}"}
        listed.append({"idx": at, "name": str(at), **path})
    _write(directory / "modules.json", listed)
    if settings is not None:
        _write(directory / "sentence_bert_config.json", settings)
    if more is not None:
        _write(directory / "config_sentence_transformers.json", more)
    return directory


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")
