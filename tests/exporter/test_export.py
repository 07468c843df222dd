"""`export_checkpoint` as a whole: outputs that are refused, what is left behind, the real model."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import transformers

from qdeploy.errors import CheckpointError, OutputError, QDeployWarning, VerificationError
from qdeploy.exporter import export as module
from qdeploy.exporter.export import export_checkpoint
from qdeploy.files import artifact
from qdeploy.files.artifact import read_manifest
from qdeploy.models import embedded
from tests.exports import Exports
from tests.tiny import tiny_adapter

EASY = (  # question, a sentence that answers it, one that does not
    (
        "When was the bridge opened to traffic?",
        "The bridge was opened to traffic in May 1932.",
        "The valley is known for its orchards.",
    ),
    (
        "What do bees gather from flowers?",
        "Bees gather nectar and pollen from flowers.",
        "The winters there are long and cold.",
    ),
    (
        "Who discovered the comet?",
        "The comet was discovered by Caroline Herschel.",
        "Its tail is made of dust and gas.",
    ),
)


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal must come before the model is traced."""

    def traced(*args: object, **options: object) -> None:
        raise AssertionError("the model was traced")

    monkeypatch.setattr(module, "trace", traced)


@pytest.mark.usefixtures("no_trace")
def test_existing_output(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"already exists\. Pass --force"):
        export_checkpoint(bert, tmp_path)


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("inside", [".", "onnx", "..", "a/b"])
def test_output_that_overlaps_the_checkpoint(damaged: Path, inside: str) -> None:
    with pytest.raises(OutputError, match="overlap: replacing one would lose the other"):
        export_checkpoint(damaged, damaged / inside, force=True)
    assert (damaged / "model.safetensors").is_file()


@pytest.mark.usefixtures("no_trace")
def test_a_model_directory_called_embedded_is_not_taken_for_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded" / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="already exists"):
        export_checkpoint("embedded", "embedded")


@pytest.mark.usefixtures("no_trace")
def test_output_inside_the_base_of_an_adapter(damaged: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", damaged)
    with pytest.raises(OutputError, match=r"damaged/model and the input .*/damaged overlap"):
        export_checkpoint(adapter, damaged / "model")


@pytest.mark.usefixtures("no_trace")
def test_unknown_task(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"Unknown task 'ner'\. Choose one of: sequence-class"
    ):
        export_checkpoint(bert, tmp_path / "model", task="ner")


def test_architecture_that_torch_cannot_trace(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A choice by a value, which no graph repeats; torch's own pages about it are held back."""
    forward = transformers.BertForSequenceClassification.forward

    def chosen(self: Any, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        if int(input_ids.sum()) % 2:
            token_type_ids = token_type_ids * 0
        return forward(self, input_ids, attention_mask, token_type_ids)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", chosen)
    with pytest.raises(
        CheckpointError, match="cannot trace BertForSequenceClassification to ONNX: .*are tested: A"
    ):
        export_checkpoint(bert, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (lambda **_: torch.ones(2)[[9]], "does not run in torch on input_ids, attention_mask, to"),
        (lambda **_: {"logits": None}, "gives no logits with a row for each text"),
        (lambda **_: SimpleNamespace(logits=torch.ones(1, 2)), "gives no logits with a row for"),
    ],
)
def test_model_that_does_not_run_is_no_fault_of_the_graph(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, text: str
) -> None:
    def forward(self: Any, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        return broken(input_ids=input_ids)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", forward)
    with pytest.raises(CheckpointError, match=text):
        export_checkpoint(bert, tmp_path / "model")


def test_graph_that_ignores_the_mask_is_refused(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = transformers.BertForSequenceClassification.forward
    monkeypatch.setattr(
        transformers.BertForSequenceClassification,
        "forward",
        lambda self, input_ids, attention_mask: forward(self, input_ids),
    )
    with pytest.raises(CheckpointError, match="does not read its attention_mask"):
        export_checkpoint(bert, tmp_path / "model")


def test_failed_verification_leaves_nothing(
    exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = exported("bert")
    graph = ir.load(done.model_dir / "model.onnx")
    weight = graph.graph.initializers["classifier.weight"]
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(weight.const_value.numpy() * 1.01, name=weight.name)
    monkeypatch.setattr(module, "trace", lambda *args, **options: graph)
    with pytest.raises(VerificationError, match="Nothing was written"):
        export_checkpoint(done.checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_progress_and_warning(
    exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter without class names is exported, and the missing names are said."""
    done = exported("bert")
    adapter = tiny_adapter(tmp_path / "adapter", done.checkpoint)
    base = shutil.copytree(done.checkpoint, tmp_path / "base")
    for file in (base / "config.json", adapter / "adapter_config.json"):
        text = file.read_text().replace(str(done.checkpoint), str(base))
        file.write_text(text.replace('"entailment"', '"LABEL_0"'))
    stages: list[tuple[str, int, int]] = []
    with pytest.warns(
        QDeployWarning, match="does not name its classes, so they are called LABEL_0"
    ):
        manifest = export_checkpoint(
            adapter, tmp_path / "model", progress=lambda *step: stages.append(step)
        )
    assert manifest == read_manifest(tmp_path / "model", "model")
    assert [stage for stage, *_ in dict.fromkeys((s[0],) for s in stages)] == [
        "find checkpoint",
        "load weights",
        "trace",
        "verify",
    ]
    assert all(0 <= done <= total for _, done, total in stages)
    assert manifest["command"].startswith(f"qdeploy export {adapter} {tmp_path / 'model'}")


def test_large_weights_go_beside_the_graph(
    exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = exported("bert")
    auto = transformers.AutoModelForSequenceClassification
    monkeypatch.setattr(artifact, "EXTERNAL_DATA_BYTES", 1000)
    module._write(
        tmp_path,
        ir.load(done.model_dir / "model.onnx"),
        auto.from_pretrained(done.checkpoint),
        transformers.AutoTokenizer.from_pretrained(done.checkpoint),
    )
    assert (tmp_path / "model.onnx.data").stat().st_size > 100_000
    feeds = {name: np.ones((1, 4), np.int64) for name in done.manifest["inputs"]}
    logits = [
        onnxruntime.InferenceSession(directory / "model.onnx").run(None, feeds)[0]
        for directory in (tmp_path, done.model_dir)
    ]
    assert np.array_equal(*logits)


@pytest.mark.integration
def test_embedded_model(tmp_path: Path) -> None:
    """The real weights, merged with the real adapter, still tell answers from other sentences."""
    if embedded.packaged_base() is None:
        pytest.skip(f"the package {embedded.DISTRIBUTION} is not installed")
    manifest = export_checkpoint("embedded", tmp_path / "model")
    assert manifest["verification"]["max_abs_diff"] < 1e-4
    assert manifest["labels"] == ["entailment", "not_entailment"]
    assert (manifest["hidden_size"], manifest["max_length"]) == (384, 512)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    for question, answer, other in EASY:
        feeds = tokenizer([question] * 2, [answer, other], padding=True, return_tensors="np")
        (logits,) = session.run(["logits"], dict(feeds))
        assert logits.argmax(-1).tolist() == [0, 1]
