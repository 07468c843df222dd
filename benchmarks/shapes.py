"""Models of the usual sizes with random weights: latency does not depend on what they hold."""

from __future__ import annotations

from pathlib import Path

import qdeploy

# Hidden size, layers, heads, inner size.
SIZES = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}


def random_bert(folder: Path, tokenizer: Path, size: str = "base", *, outliers: bool) -> Path:
    """A model directory of BERT's shape, exported.

    Args:
        folder: for the checkpoint and the model directory.
        tokenizer: directory whose tokenizer files it takes.
        size: a name of `SIZES`.
        outliers: in every LayerNorm two channels 20 times as large, and a 20th of their weight in
            the GEMMs behind it, as trained encoders have them: attention stays as it is.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    hidden, layers, heads, inner = SIZES[size]
    labels = ("entailment", "not_entailment")
    config = transformers.BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_labels=2,
        id2label=dict(enumerate(labels)),
    )
    model = transformers.BertForSequenceClassification(config)
    if outliers:
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, torch.nn.LayerNorm):
                    module.weight[[308, 381]] *= 20
                elif name.endswith(("query", "key", "value", "intermediate.dense")):
                    module.weight[:, [308, 381]] /= 20
    model.save_pretrained(folder / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "checkpoint" / name).write_bytes((tokenizer / name).read_bytes())
    qdeploy.export(folder / "checkpoint", folder / "model")
    return folder / "model"
