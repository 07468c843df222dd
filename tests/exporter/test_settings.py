"""Whatever a config.json says: the export works, or one error of ours names the value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
import transformers

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.export import export_checkpoint
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.settings import longest_full_row
from qdeploy.exporter.tasks import TASKS, task_of
from tests.tiny import tiny_checkpoint

# Each value alone in the file of a BERT of hidden size 32, and a piece of the refusal.
REFUSED: list[tuple[str, Any, str]] = [
    ("hidden_size", "wide", "hidden_size"),
    ("hidden_size", "32", "hidden_size"),
    ("hidden_size", -32, "sets hidden_size to -32, and a whole number of at least 1"),
    ("hidden_size", None, "hidden_size"),
    ("hidden_size", {}, "hidden_size"),
    ("hidden_size", 33, "not a multiple of the number of attention heads"),
    ("hidden_size", 16, r"word_embeddings.weight is \[512, 32\] in the files, and .* \[512, 16\]"),
    ("hidden_size", 10**9, r"makes it \[512, 1000000000\]"),
    ("num_attention_heads", 0, "sets num_attention_heads to 0"),
    ("num_attention_heads", 3, "not a multiple"),
    ("num_hidden_layers", 0, "sets num_hidden_layers to 0"),
    ("num_hidden_layers", 1, "16 tensors of .* are read by nothing"),
    ("num_hidden_layers", 3, "16 of 57 parameters .* are not in"),
    ("num_hidden_layers", "2", "num_hidden_layers"),
    ("num_hidden_layers", 10**6, "no encoder has more than 1000"),
    ("intermediate_size", 10**12, r"\[64, 32\] in the files"),
    ("vocab_size", 10**12, r"\[512, 32\] in the files"),
    ("vocab_size", 10, r"config.json makes it \[10, 32\]"),
    ("max_position_embeddings", -5, "sets max_position_embeddings to -5"),
    ("max_position_embeddings", 8, r"\[128, 32\] in the files"),
    ("type_vocab_size", 1, r"token_type_embeddings.weight is \[2, 32\]"),
    ("type_vocab_size", -1, "cannot load"),
    ("hidden_act", "nope", "there is no 'nope' in transformers"),
    ("hidden_act", None, "hidden_act"),
    ("hidden_dropout_prob", "0.1", "hidden_dropout_prob"),
    ("hidden_dropout_prob", 2, "between 0 and 1"),
    ("layer_norm_eps", -1.0, "sets layer_norm_eps to -1.0, which is added to a variance"),
    ("layer_norm_eps", "x", "layer_norm_eps"),
    ("pad_token_id", 10**6, "[Pp]adding"),
    ("pad_token_id", "x", "pad_token_id"),
    ("id2label", [], "config.json"),
    ("id2label", {}, "names no class: its id2label is empty"),
    ("id2label", {"x": "a", "y": "b"}, "config.json"),
    ("id2label", {"1": "a", "2": "b"}, "counts its classes as 1, 2 in id2label.*Count id2label fr"),
    ("id2label", {"0": "a", "2": "b"}, "counts its classes as 0, 2"),
    ("id2label", {"0": "a"}, r"classifier.weight is \[2, 32\] in the files"),
    ("id2label", {"0": "a", "1": "b", "2": "c"}, r"config.json makes it \[3, 32\]"),
    ("num_labels", "2", "config.json"),
    ("num_labels", 0, "names no class"),
    ("architectures", 5, "is a 5, which has no head"),
    ("architectures", {}, "has no 'architectures'"),
    ("model_type", [], "sets model_type to"),
    ("model_type", "roberta", "41 of 41 parameters"),
    ("position_embedding_type", "relative_key", "does not compute"),
    ("pruned_heads", {"0": [1]}, "does not compute"),
    ("is_encoder_decoder", True, "an encoder with a decoder behind it"),
    ("add_cross_attention", True, "cannot load"),
    ("quantization_config", 3, "is quantized already"),
    ("auto_map", 3, "config.json"),
    ("rope_parameters", 3, "config.json"),
    ("per_layer_config", 3, "config.json"),
]
# What changes how a run answers, and not what it computes.
HARMLESS: dict[str, Any] = {
    "return_dict": False,
    "output_attentions": True,
    "output_hidden_states": True,
    "torchscript": True,
    "use_cache": True,
    "output_past": True,
    "chunk_size_feed_forward": 4,
    "gradient_checkpointing": "yes",
    "finetuning_task": 3,
    "label2id": {"no": 7},
    "problem_type": 3,
    "pad_token_id": -1,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint")


@pytest.fixture
def edited(plain: Path, tmp_path: Path) -> Any:
    """A copy of the checkpoint with other values in its config.json."""

    def edit(**values: Any) -> Path:
        copy = tmp_path / "edited"
        copy.mkdir()
        for file in plain.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | values))
        return copy

    return edit


def load(checkpoint: Path) -> torch.nn.Module:
    found = find_checkpoint(checkpoint)
    return load_model(found, task_of(found.name, found.config, None, None))


@pytest.mark.parametrize(("name", "value", "text"), REFUSED)
def test_value_is_refused_before_the_trace(edited: Any, name: str, value: Any, text: str) -> None:
    checkpoint = edited(**{name: value})
    with pytest.raises(CheckpointError, match=text):
        load(checkpoint)


@pytest.mark.parametrize(
    "task", [task for task in TASKS if task.suffix], ids=lambda task: task.suffix
)
@pytest.mark.parametrize("family", ["bert", "modernbert", "xlm"])
def test_what_a_run_returns_changes_nothing(family: str, task: Any, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "c", family, task.name)
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | HARMLESS))
    model = load(checkpoint)
    with torch.no_grad():
        found = model(input_ids=torch.ones((1, 4), dtype=torch.int64))
    assert tuple(found) == task.outputs


def test_outputs_of_the_graph_are_those_of_the_manifest(edited: Any, tmp_path: Path) -> None:
    checkpoint = edited(**HARMLESS)
    manifest = export_checkpoint(checkpoint, tmp_path / "model")
    graph = ir.load(tmp_path / "model" / "model.onnx").graph
    assert [str(value.name) for value in graph.outputs] == manifest["outputs"] == ["logits"]
    saved = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert saved.return_dict
    assert not saved.output_attentions
    assert not saved.output_hidden_states
    assert "torchscript" not in json.loads((tmp_path / "model" / "config.json").read_text())


def test_question_answering_needs_no_class_names(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "c", "bert", "question-answering")
    path = checkpoint / "config.json"
    names = {"id2label": {"1": "start", "2": "end"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    manifest = export_checkpoint(checkpoint, tmp_path / "model")
    assert manifest["labels"] == ["LABEL_0", "start"]


def test_length_that_bigbird_attends_to_in_full() -> None:
    assert longest_full_row({"model_type": "bert"}) is None
    assert longest_full_row({"model_type": "big_bird"}) == 704  # its defaults: 3 blocks of 64
    assert longest_full_row({"model_type": "big_bird", "attention_type": "original_full"}) is None
