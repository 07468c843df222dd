"""The verification sees what is wrong: every check here is made to fail once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers

from qdeploy.errors import VerificationError
from qdeploy.exporter.verify import SHAPES, Interface, verify_logits, verify_tokenizer
from tests.exports import Exports


@pytest.fixture
def parts(exported: Exports, tmp_path: Path) -> tuple[Any, Path, Any, Interface]:
    """Model, a copy of its graph, tokenizer and interface of the tiny BERT."""
    done = exported("bert")
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(done.checkpoint, attn_implementation="eager").eval()
    graph = Path(shutil.copy(done.model_dir / "model.onnx", tmp_path))
    interface = Interface(tuple(done.manifest["inputs"]), ("logits",), 128, 0)
    return model, graph, transformers.AutoTokenizer.from_pretrained(done.checkpoint), interface


def nudge(graph: Path, name: str, by: float) -> None:
    """Add a number to one value of an initializer."""
    model = ir.load(graph)
    value = model.graph.initializers[name]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array.flat[0] += by
    value.const_value = ir.Tensor(array, name=name)
    ir.save(model, graph)


def factor(graph: Path, name: str, by: float) -> None:
    """Multiply an initializer by a number."""
    model = ir.load(graph)
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.Tensor((value.const_value.numpy() * by).astype(np.float32), name=name)
    ir.save(model, graph)


def test_whole_graph_passes_and_reports(parts: tuple[Any, Path, Any, Interface]) -> None:
    steps: list[tuple[int, int]] = []
    worst = verify_logits(*parts, step=lambda done, total: steps.append((done, total)))
    assert 0 < worst.absolute < 1e-4
    assert 0 < worst.relative < 1e-4
    assert worst.rounding is None
    assert steps == [(i, 2 * len(SHAPES)) for i in range(1, 2 * len(SHAPES) + 1)]


def test_small_change_of_a_bias_is_seen(parts: tuple[Any, Path, Any, Interface]) -> None:
    nudge(parts[1], "classifier.bias", 3e-4)
    with pytest.raises(
        VerificationError, match=r"differs from torch by 3.*e-04 \(real text, batch"
    ):
        verify_logits(*parts)


@pytest.mark.parametrize("scale", [0.01, 1, 300, 1e5])
def test_bound_follows_the_size_of_the_outputs(
    parts: tuple[Any, Path, Any, Interface], scale: float
) -> None:
    """A regression head of any unit passes, and a weight off by 1e-3 of its size never does."""
    model, graph, tokenizer, interface = parts
    with torch.no_grad():
        model.classifier.weight.mul_(scale)
        model.classifier.bias.mul_(scale)
    for name in ("classifier.weight", "classifier.bias"):
        factor(graph, name, scale)
    found = verify_logits(model, graph, tokenizer, interface)
    assert found.relative < 1e-5
    assert (found.rounding is None) == (scale <= 1)
    assert found.rounding is None or 1e-8 < found.rounding < 1e-5
    assert next(model.parameters()).dtype == torch.float32
    for name in ("classifier.weight", "bert.encoder.layer.0.attention.self.value.weight"):
        factor(graph, name, 1.001)
        with pytest.raises(VerificationError, match=r"logits of the exported graph differs from t"):
            verify_logits(model, graph, tokenizer, interface)
        factor(graph, name, 1 / 1.001)


def test_model_that_cannot_run_in_fp64_is_held_to_the_plain_bound(
    parts: tuple[Any, Path, Any, Interface], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, graph, tokenizer, interface = parts
    monkeypatch.setattr(model, "double", lambda: model.bert.pooler.double())
    assert verify_logits(model, graph, tokenizer, interface).rounding is None
    nudge(graph, "classifier.bias", 3e-4)
    with pytest.raises(VerificationError, match="the model does not run in FP64"):
        verify_logits(model, graph, tokenizer, interface)


def test_last_position_is_looked_at(parts: tuple[Any, Path, Any, Interface]) -> None:
    """Only the longest shape reads position 127."""
    model, graph, tokenizer, interface = parts
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight[127, 0] += 50
    with pytest.raises(VerificationError, match="batch 8, sequence 128"):
        verify_logits(model, graph, tokenizer, interface)


def test_padding_is_looked_at(parts: tuple[Any, Path, Any, Interface]) -> None:
    """A graph that does not read the mask is wrong on padded rows alone."""
    _, graph, _, _ = parts
    model = ir.load(graph)
    (mask,) = (value for value in model.graph.inputs if value.name == "attention_mask")
    ids = model.graph.inputs[0]
    one = ir.Value(
        name="one",
        shape=ir.Shape([]),
        type=ir.TensorType(ir.DataType.INT64),
        const_value=ir.Tensor(np.array(1), name="one"),
    )
    model.graph.register_initializer(one)
    equal = ir.Node("", "Equal", [ids, ids], name="same")
    ones = ir.Node("", "Cast", equal.outputs, attributes={"to": ir.AttrInt64("to", 7)}, name="ones")
    for use in list(mask.uses()):
        use.node.replace_input_with(use.idx, ones.outputs[0])
    model.graph.insert_before(model.graph[0], [equal, ones])
    ir.save(model, graph)
    with pytest.raises(VerificationError, match="differs from torch"):
        verify_logits(*parts)


def test_checkpoint_that_overflows(parts: tuple[Any, Path, Any, Interface]) -> None:
    with torch.no_grad():
        parts[0].classifier.weight.fill_(3e38)
    with pytest.raises(VerificationError, match="checkpoint itself gives logits that are NaN or"):
        verify_logits(*parts)


def test_file_that_is_no_graph(parts: tuple[Any, Path, Any, Interface]) -> None:
    parts[1].write_bytes(b"damaged")
    with pytest.raises(VerificationError, match="does not load the exported graph"):
        verify_logits(*parts)


def test_shapes_are_cut_to_what_the_model_takes() -> None:
    shapes = Interface(("input_ids",), ("logits",), 24, 0).shapes()
    assert shapes == ((1, 8), (2, 24), (8, 24))


def test_tokenizer_that_lower_cases_otherwise(exported: Exports, tmp_path: Path) -> None:
    done = exported("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.checkpoint)
    saved = json.loads((done.model_dir / "tokenizer.json").read_text())
    saved["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(VerificationError, match="gives other input_ids than transformers for"):
        verify_tokenizer(tokenizer, tmp_path / "tokenizer.json", ["input_ids"])


def test_tokenizer_with_other_segments(exported: Exports, tmp_path: Path) -> None:
    done = exported("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.checkpoint)
    text = (done.model_dir / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"type_id": 1', '"type_id": 0'))
    inputs = ["input_ids", "token_type_ids"]
    with pytest.raises(VerificationError, match="gives other token_type_ids than transformers"):
        verify_tokenizer(tokenizer, tmp_path / "tokenizer.json", inputs)
    assert verify_tokenizer(tokenizer, tmp_path / "tokenizer.json", ["input_ids"]) > 100


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokenizers_cut_on_their_own_side(exported: Exports, side: str) -> None:
    done = exported("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.checkpoint, truncation_side=side)
    assert verify_tokenizer(tokenizer, done.model_dir / "tokenizer.json", ["input_ids"]) > 100
