"""Tensors that nothing reads: refused where they are of the model, no alarm where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.tasks import TASKS
from tests.families import tiny_config
from tests.tiny import tiny_checkpoint

SEQUENCE, TOKENS, *_ = TASKS


def add(checkpoint: Path, **tensors: torch.Tensor) -> None:
    """Add tensors to a checkpoint; `__` in a name stands for a dot."""
    file = checkpoint / "model.safetensors"
    content = load_file(file) | {n.replace("__", "."): t.contiguous() for n, t in tensors.items()}
    save_file(content, file, {"format": "pt"})


def configure(checkpoint: Path, **values: object) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def load(checkpoint: Path) -> torch.nn.Module:
    return load_model(find_checkpoint(checkpoint, allow_pickle=True), SEQUENCE)


def test_file_of_more_layers_than_the_configuration(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "c", num_hidden_layers=3)
    configure(checkpoint, num_hidden_layers=1)
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint)
    text = str(caught.value)
    assert text.startswith(f"32 tensors of {checkpoint} are read by nothing in BertFor")
    assert "bert.encoder.layer.1.attention.output.LayerNorm.bias" in text
    assert "and 27 more" in text
    assert "(bert, 1 layers)" in text
    assert "BertForSequenceClassification.from_pretrained" in text


@pytest.mark.parametrize("form", ["shards", "pickle"])
def test_other_forms_of_the_file_are_looked_at_too(tmp_path: Path, form: str) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "c")
    file = checkpoint / "model.safetensors"
    tensors = load_file(file) | {"scorer.extra.weight": torch.ones(3)}
    file.unlink()
    if form == "pickle":
        torch.save(tensors, checkpoint / "pytorch_model.bin")
    else:
        names = sorted(tensors)
        parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        for part, held in parts.items():
            save_file({n: tensors[n] for n in held}, checkpoint / part, {"format": "pt"})
        where = {name: part for part, held in parts.items() for name in held}
        index = {"metadata": {}, "weight_map": where}
        (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"1 tensors of .*: scorer.extra.weight\."):
        load(checkpoint)


def test_bare_parameter_that_a_custom_head_would_read(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "c", "roberta")
    add(checkpoint, classifier__norm__weight=torch.ones(32))
    with pytest.raises(CheckpointError, match=r"nothing in Roberta.*: classifier.norm.weight"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("family", "pretrained"),
    [
        ("bert", "BertForPreTraining"),
        ("distilbert", "DistilBertForMaskedLM"),
        ("roberta", "RobertaForMaskedLM"),
        ("electra", "ElectraForPreTraining"),
        ("electra", "ElectraForMaskedLM"),
        ("mpnet", "MPNetForMaskedLM"),
        ("deberta-v2", "DebertaV2ForMaskedLM"),
        ("modernbert", "ModernBertForMaskedLM"),
        ("albert", "AlbertForPreTraining"),
        ("xlm", "XLMWithLMHeadModel"),
    ],
)
def test_heads_of_pretraining_are_no_fault(tmp_path: Path, family: str, pretrained: str) -> None:
    """A file may hold the head of the pretraining beside that of the task."""
    checkpoint = tiny_checkpoint(tmp_path / "c", family)
    wanted = load(checkpoint).state_dict()
    more = getattr(transformers, pretrained)(tiny_config(family)).state_dict()
    own = load_file(checkpoint / "model.safetensors")
    extra = {n: t.clone() for n, t in more.items() if n not in own}
    assert extra
    add(checkpoint, **extra)
    found = load(checkpoint).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_pooler_that_the_head_goes_without_is_no_fault(tmp_path: Path) -> None:
    """As in the files of roberta-large-mnli."""
    checkpoint = tiny_checkpoint(tmp_path / "c", "roberta")
    add(checkpoint, roberta__pooler__dense__weight=torch.ones(32, 32))
    load(checkpoint)


def test_buffers_and_old_names_are_no_fault(tmp_path: Path) -> None:
    """LayerNorm's γ and β, the counted positions, and a base model saved without its prefix."""
    checkpoint = tiny_checkpoint(tmp_path / "c")
    wanted = load(checkpoint).state_dict()
    file = checkpoint / "model.safetensors"
    renamed = {}
    for name, tensor in load_file(file).items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        renamed[name.removeprefix("bert.")] = tensor
    renamed["embeddings.position_ids"] = torch.arange(128)[None]
    save_file(renamed, file, {"format": "pt"})
    found = load(checkpoint).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_that_transformers_dropped(tmp_path: Path, kind: str) -> None:
    """With their tables the tensors betray it; without them the setting alone has to."""
    checkpoint = tiny_checkpoint(tmp_path / "c")
    configure(checkpoint, position_embedding_type=kind)
    with pytest.raises(
        CheckpointError, match=f"position_embedding_type to '{kind}', which the 'bert' of tran"
    ):
        load(checkpoint)
    table = "bert__encoder__layer__0__attention__self__distance_embedding__weight"
    add(checkpoint, **{table: torch.ones(255, 8)})
    configure(checkpoint, position_embedding_type="absolute")
    with pytest.raises(CheckpointError, match="1 tensors of .*self.distance_embedding.weight"):
        load(checkpoint)


def test_positions_that_a_family_does_compute(tmp_path: Path) -> None:
    """ESM has rotary positions, and DeBERTa its own relative ones."""
    assert load(tiny_checkpoint(tmp_path / "esm", "esm"))
    assert load(tiny_checkpoint(tmp_path / "deberta", "deberta"))
    checkpoint = tiny_checkpoint(tmp_path / "bert")
    configure(checkpoint, position_embedding_type="absolute", pruned_heads={})
    assert load(checkpoint)
    configure(checkpoint, pruned_heads={"0": [1]})
    with pytest.raises(CheckpointError, match=r"pruned_heads to .*does not compute"):
        load(checkpoint)
