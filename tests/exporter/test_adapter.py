"""PEFT adapters: merged in FP32, the head taken from the adapter, misfits refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.tasks import TASKS
from tests.tiny import tiny_adapter, tiny_checkpoint

SEQUENCE = TASKS[0]
QUERY = "bert.encoder.layer.1.attention.self.query"
PREFIX = "base_model.model."


@pytest.fixture
def bare(damaged: Path) -> Path:
    """The encoder with its pooler, without a head: what adapters are trained over."""
    tensors = load_file(damaged / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if not n.startswith("classifier")}
    save_file(kept, damaged / "model.safetensors", {"format": "pt"})
    config = json.loads((damaged / "config.json").read_text())
    for name in ("id2label", "label2id"):
        del config[name]
    (damaged / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    return damaged


def refused(text: str, adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        load_model(find_checkpoint(adapter), SEQUENCE)


def rewrite(adapter: Path, drop: str = "", **tensors: torch.Tensor) -> None:
    file = adapter / "adapter_model.safetensors"
    content = {n: t for n, t in load_file(file).items() if not drop or drop not in n}
    save_file(content | {n.replace("__", "."): t for n, t in tensors.items()}, file)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_merged_weight_is_the_fp32_sum(bare: Path, tmp_path: Path, dtype: str) -> None:
    """W + (alpha / rank)·B·A against float64; an FP16 merge would be off by 1e-4 and more."""
    adapter = tiny_adapter(tmp_path / "adapter", bare, dtype=dtype)
    model = load_model(find_checkpoint(adapter), SEQUENCE)
    stored = load_file(adapter / "adapter_model.safetensors")
    a, b = (stored[f"{PREFIX}{QUERY}.lora_{x}.weight"].double() for x in "AB")
    base = load_file(bare / "model.safetensors")[f"{QUERY}.weight"].double()
    merged = model.state_dict()[f"{QUERY}.weight"]
    assert merged.dtype == torch.float32
    expected = base + 8 / 4 * (b @ a)
    assert (expected - base).abs().max() > 1e-2  # the adapter does change the weight
    assert np.abs(merged.double().numpy() - expected.numpy()).max() < 1e-6


def test_dora_is_merged_as_peft_computes_it(bare: Path, tmp_path: Path) -> None:
    """Its file names a magnitude otherwise than the module does (Liu et al. 2024, 2402.09353)."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    adapter = tiny_adapter(
        tmp_path / "adapter", bare, use_dora=True, target_modules=["query", "value"]
    )
    merged = load_model(find_checkpoint(adapter), SEQUENCE).eval()
    base = AutoModelForSequenceClassification.from_pretrained(bare, num_labels=2)
    wrapped = PeftModel.from_pretrained(base, adapter).eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        difference = merged(ids).logits - wrapped(input_ids=ids).logits
    assert difference.abs().max() < 1e-5


def test_head_of_the_adapter_counts_as_trained(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    model = load_model(find_checkpoint(adapter), SEQUENCE)
    stored = load_file(adapter / "adapter_model.safetensors")
    head = model.state_dict()["classifier.weight"]
    assert torch.equal(head, stored[f"{PREFIX}classifier.weight"])
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.architectures == ["BertForSequenceClassification"]
    assert not any("lora" in name for name in model.state_dict())


def test_number_of_classes_is_that_of_the_adapters_head(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    name = f"{PREFIX}classifier".replace(".", "__")
    rewrite(adapter, **{f"{name}__weight": torch.ones(7, 32), f"{name}__bias": torch.zeros(7)})
    model = load_model(find_checkpoint(adapter), SEQUENCE)
    assert model.config.num_labels == 7
    assert model.state_dict()["classifier.weight"].shape == (7, 32)


def test_head_that_neither_base_nor_adapter_has(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    rewrite(adapter, drop="classifier")
    refused("never trained: classifier.bias, classifier.weight .* modules_to_save", adapter)


def test_tensor_that_the_adapter_lacks(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    rewrite(adapter, drop=f"{QUERY}.lora_B")
    refused(rf"lacks 1 of its \d+ tensors, {QUERY}.lora_B.weight first. Save it again", adapter)


def test_adapter_of_a_wider_base(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    name = f"{PREFIX}{QUERY}.lora_A.weight".replace(".", "__")
    rewrite(adapter, **{name: torch.zeros(4, 48)})
    refused("does not fit its base .*Check base_model_name_or_path", adapter)


def test_nan_in_the_adapter(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    name = f"{PREFIX}{QUERY}.lora_A.weight".replace(".", "__")
    rewrite(adapter, **{name: torch.full((4, 32), float("nan"))})
    refused(f"{QUERY}.weight of {adapter} holds 1024 values", adapter)


def test_prompt_adapters_cannot_be_merged(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_CLS",
        "num_virtual_tokens": 4,
        "base_model_name_or_path": str(bare),
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    refused("PROMPT_TUNING adapter: it adds virtual tokens.*LoRA", adapter)


def test_unknown_kind_of_adapter(bare: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "NOVEL"}))
    refused("cannot be read by peft .*pip install --upgrade peft", adapter)


def test_peft_that_is_not_installed(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    monkeypatch.setitem(sys.modules, "peft", None)
    refused("package peft is not installed. Run `.* -m pip install ", adapter)


@pytest.mark.parametrize(
    "options",
    [
        {},  # PEFT stores the whole table when it has grown
        {"modules_to_save": ["classifier", "word_embeddings"]},
        {"target_modules": ["query", "word_embeddings"]},
        {"trainable_token_indices": {"word_embeddings": [3, 513, 519]}},
    ],
    ids=["table", "modules_to_save", "lora", "token_indices"],
)
@pytest.mark.parametrize("with_config", [False, True])
def test_adapter_of_a_table_that_grew(
    bert: Path, tmp_path: Path, options: dict[str, Any], with_config: bool
) -> None:
    """Trained after `resize_token_embeddings`, which the base on disk has not seen."""
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(bert)
    model.resize_token_embeddings(520)
    chosen = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query"]} | options
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**chosen)).eval()
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    if with_config:
        model.config.save_pretrained(tmp_path / "adapter")
    ids = {"input_ids": torch.tensor([[2, 3, 513, 519, 7]])}
    loaded = load_model(find_checkpoint(tmp_path / "adapter"), SEQUENCE)
    assert loaded.get_input_embeddings().weight.shape[0] == 520
    with torch.no_grad():
        difference = (loaded(**ids).logits - wrapped(**ids).logits).abs().max()
    assert difference < 1e-6


def test_head_of_other_classes_than_the_bases(bert: Path, tmp_path: Path) -> None:
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(bert, num_labels=3, ignore_mismatched_sizes=True)
    options = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
    peft.get_peft_model(model, options).save_pretrained(tmp_path / "adapter")
    loaded = load_model(find_checkpoint(tmp_path / "adapter"), SEQUENCE)
    assert loaded.config.num_labels == 3
    trained = model.classifier.modules_to_save["default"].weight
    assert torch.equal(loaded.state_dict()["classifier.weight"], trained)


def test_head_of_another_task_in_the_base_is_no_fault(bert: Path, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base", "bert", "question-answering")
    tensors = load_file(base / "model.safetensors")
    pooler = {n: t for n, t in load_file(bert / "model.safetensors").items() if "pooler" in n}
    save_file(tensors | pooler, base / "model.safetensors", {"format": "pt"})
    adapter = tiny_adapter(tmp_path / "adapter", base)
    assert load_model(find_checkpoint(adapter), SEQUENCE).config.num_labels == 2


def test_adapter_of_more_layers_than_its_base(bare: Path, tmp_path: Path) -> None:
    """PEFT drops what finds no module: the adapter was trained on a deeper base."""
    adapter = tiny_adapter(tmp_path / "adapter", bare)
    other = f"{PREFIX}bert.encoder.layer.2.attention.self.query.lora_A.weight"
    rewrite(adapter, **{other: torch.ones(4, 32)})
    refused("1 tensors of the adapter .* fit no module of its base, bert.encoder.layer.2", adapter)
