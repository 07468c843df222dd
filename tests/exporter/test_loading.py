"""Weights into torch: FP32, trained and finite, or a refusal that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.tasks import TASKS, task_of

SEQUENCE, TOKENS, ANSWERS, _ = TASKS


def edit(checkpoint: Path, **tensors: torch.Tensor | None) -> None:
    """Replace or (None) remove tensors of a checkpoint; `__` in a name stands for a dot."""
    file = checkpoint / "model.safetensors"
    content = load_file(file)
    for name, tensor in tensors.items():
        content[name.replace("__", ".")] = tensor
    save_file({n: t for n, t in content.items() if t is not None}, file, {"format": "pt"})


def refused(text: str, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        load_model(find_checkpoint(checkpoint), SEQUENCE)


def test_half_precision_weights_arrive_in_fp32(damaged: Path) -> None:
    file = damaged / "model.safetensors"
    half = {name: t.half() for name, t in load_file(file).items()}
    save_file(half, file, {"format": "pt"})
    state = load_model(find_checkpoint(damaged), SEQUENCE).state_dict()
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}
    assert torch.equal(state["classifier.weight"], half["classifier.weight"].float())


def test_head_that_was_never_trained(damaged: Path) -> None:
    edit(damaged, classifier__weight=None, classifier__bias=None)
    refused(
        "The head of .* was never trained: classifier.bias, classifier.weight would be random "
        "numbers.*Fine-tune the model",
        damaged,
    )


def test_pooler_that_was_never_trained(damaged: Path) -> None:
    edit(damaged, bert__pooler__dense__weight=None)
    refused("was never trained: bert.pooler.dense.weight would be random", damaged)


def test_head_of_another_task(bert: Path) -> None:
    with pytest.raises(CheckpointError, match=r"never trained: qa_outputs.bias, qa_outputs.weight"):
        load_model(find_checkpoint(bert), ANSWERS)


def test_missing_layer(damaged: Path) -> None:
    edit(damaged, bert__encoder__layer__1__output__dense__weight=None)
    refused(
        r"1 of 41 parameters of BertForSequenceClassification are not in .*: "
        r"bert.encoder.layer.1.output.dense.weight. The weights belong to another architecture",
        damaged,
    )


def test_shape_that_the_configuration_does_not_give(damaged: Path) -> None:
    edit(damaged, classifier__weight=torch.zeros(2, 16))
    refused("cannot load .* as bert for sequence-classification: .*config.json", damaged)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(damaged: Path, value: float) -> None:
    weight = torch.zeros(32, 32)
    weight[3, 4] = value
    edit(damaged, bert__pooler__dense__weight=weight)
    refused(
        "bert.pooler.dense.weight of .* holds 1 values of 1024 that are NaN or infinite.*"
        "earlier checkpoint",
        damaged,
    )


def test_pickled_weights_load_with_consent(damaged: Path) -> None:
    file = damaged / "model.safetensors"
    tensors = load_file(file)
    torch.save(tensors, damaged / "pytorch_model.bin")
    file.unlink()
    state = load_model(find_checkpoint(damaged, allow_pickle=True), SEQUENCE).state_dict()
    assert torch.equal(state["classifier.weight"], tensors["classifier.weight"])


def test_configuration_that_makes_no_model(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    refused("cannot", damaged)


def test_architecture_without_such_a_head(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    refused("architecture 'vit' of .* has no model for sequence-classification", damaged)


def test_task_is_read_from_the_architecture() -> None:
    config = {"architectures": ["BertForTokenClassification"]}
    assert task_of("x", config, None, None) == TOKENS
    assert task_of("x", config, None, "question-answering") == ANSWERS
    assert task_of("x", {}, {"task_type": "SEQ_CLS"}, None) == SEQUENCE


@pytest.mark.parametrize(
    ("config", "adapter", "asked", "text"),
    [
        (
            {"architectures": ["BertForMaskedLM"]},
            None,
            None,
            "x is a BertForMaskedLM, which has no",
        ),
        ({"architectures": ["BertModel"]}, None, None, "no head that was trained.*Fine-tune it"),
        ({}, None, None, "config.json has no 'architectures'. Pass --task"),
        ({}, {"task_type": "CAUSAL_LM"}, None, r"adapter of a generative task \(CAUSAL_LM\)"),
        ({}, {"task_type": "SEQ_2_SEQ_LM"}, "token-classification", "generative task"),
        ({}, None, "token-clasification", "Did you mean 'token-classification'"),
    ],
)
def test_task_that_cannot_be_told(
    config: dict[str, object], adapter: dict[str, object] | None, asked: str | None, text: str
) -> None:
    with pytest.raises(CheckpointError, match=text):
        task_of("x", config, adapter, asked)
