"""Every encoder family and task: exported, verified again by other means, and canonical."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import transformers

from qdeploy.exporter.canonical import SCOPES, scopes
from qdeploy.schemas.manifest import ModelManifest
from tests.exports import Exported, Exports
from tests.tiny import FAMILIES, LABELS, LAYERS, MAX_LENGTH

WITH_TYPES = ("bert", "electra")


def feeds(manifest: ModelManifest, batch: int, length: int) -> dict[str, Any]:
    """Random int64 [B, S] inputs; the last row is half padding."""
    rng = np.random.default_rng(7)
    ids = rng.integers(5, 140, (batch, length))
    mask = np.ones_like(ids)
    mask[-1, length // 2 :] = 0
    ids[mask == 0] = manifest["pad_token_id"]
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    return {name: every[name] for name in manifest["inputs"]}


def torch_outputs(done: Exported, auto: str, inputs: dict[str, Any]) -> Any:
    model = getattr(transformers, auto).from_pretrained(done.checkpoint).eval()
    with torch.no_grad():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()})


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_torchs_at_a_shape_that_export_did_not_try(
    family: str, exported: Exports
) -> None:
    done = exported(family)
    inputs = feeds(done.manifest, 3, 19)
    session = onnxruntime.InferenceSession(done.model_dir / "model.onnx")
    (found,) = session.run(["logits"], inputs)
    expected = torch_outputs(done, "AutoModelForSequenceClassification", inputs).logits.numpy()
    assert found.shape == (3, 2)
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(found, axis=0).max() > 1e-2  # rows differ, so a constant output would be seen


@pytest.mark.parametrize("family", FAMILIES)
def test_manifest_says_what_the_other_rooms_need(family: str, exported: Exports) -> None:
    manifest = exported(family).manifest
    assert 0 < manifest["verification"]["max_abs_diff"] < 1e-4
    assert manifest["verification"]["shapes"] == [[1, 8], [2, 37], [8, 128]]
    assert manifest["verification"]["tokenizer_rows"] > 100
    types = ["token_type_ids"] if family in WITH_TYPES else []
    assert manifest["inputs"] == ["input_ids", "attention_mask", *types]
    assert manifest["outputs"] == ["logits"]
    assert manifest["max_length"] == MAX_LENGTH  # RoBERTa's two lost positions taken off
    assert manifest["labels"] == ["entailment", "not_entailment"]
    assert (manifest["model_type"], manifest["hidden_size"]) == (family, 32)
    assert manifest["pad_token_id"] == (1 if family in ("roberta", "xlm-roberta", "mpnet") else 0)
    assert {"model.onnx", "config.json", "tokenizer.json"} <= set(manifest["files"])
    assert "model.onnx.data" not in manifest["files"]


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_is_canonical(family: str, exported: Exports) -> None:
    done = exported(family)
    model = ir.load(done.model_dir / "model.onnx")
    assert model.opset_imports == {"": 20}
    assert not model.functions
    for value in model.graph.inputs:
        assert value.dtype == ir.DataType.INT64
        assert [str(d) for d in value.shape or ()] == ["batch", "sequence"]
    (logits,) = model.graph.outputs
    assert [str(d) for d in logits.shape or ()] == ["batch", "2"]
    assert {key for node in model.graph for key in node.metadata_props} <= {SCOPES}
    written = onnx.load(exported(family).model_dir / "model.onnx").graph
    initializers = {tensor.name for tensor in written.initializer}
    assert not initializers & {value.name for value in written.value_info}
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    operators = [node.op_type for node in model.graph]
    assert operators.count("Gelu") >= LAYERS
    assert operators.count("LayerNormalization") >= 2 * LAYERS


@pytest.mark.parametrize("family", FAMILIES)
def test_each_parameter_has_its_own_name_and_values(family: str, exported: Exports) -> None:
    """Initializers are torch's parameters, as they are or transposed, and none stands for two."""
    done = exported(family)
    model = ir.load(done.model_dir / "model.onnx")
    auto = transformers.AutoModelForSequenceClassification
    parameters = dict(auto.from_pretrained(done.checkpoint).named_parameters())
    for name, value in model.graph.initializers.items():
        if value.dtype != ir.DataType.FLOAT or value.shape is None or value.shape.rank() == 0:
            continue
        if "inv_freq" in name:  # ModernBERT's rotary buffer
            continue
        array = value.const_value.numpy()  # type: ignore[union-attr]
        expected = parameters[name].detach().numpy()
        assert array.shape in (expected.shape, expected.T.shape)
        assert np.array_equal(array, expected) or np.array_equal(array, expected.T)
        readers = {scopes(use.node)[-1] for use in value.uses()}
        if "rel_embeddings" not in name:  # DeBERTa reads this table without calling its module
            assert readers == {name.rpartition(".")[0]}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_path_of_this_machine_is_in_the_graph(family: str, exported: Exports) -> None:
    data = (exported(family).model_dir / "model.onnx").read_bytes()
    for word in (b"site-packages", b"modeling_", str(Path(torch.__file__).parent).encode()):
        assert word not in data


def test_a_weight_that_torch_uses_twice_stays_one(exported: Exports) -> None:
    """DeBERTa's key projection also projects the relative positions."""
    model = ir.load(exported("deberta-v2").model_dir / "model.onnx")
    name = "deberta.encoder.layer.0.attention.self.key_proj.weight"
    assert len(list(model.graph.initializers[name].uses())) == 2


def test_token_classification(exported: Exports) -> None:
    done = exported("distilbert", "token-classification")
    assert done.manifest["task"] == "token-classification"
    assert done.manifest["labels"] == list(LABELS["token-classification"])
    inputs = feeds(done.manifest, 2, 9)
    session = onnxruntime.InferenceSession(done.model_dir / "model.onnx")
    (found,) = session.run(None, inputs)
    expected = torch_outputs(done, "AutoModelForTokenClassification", inputs).logits.numpy()
    assert found.shape == (2, 9, 3)
    assert np.abs(found - expected).max() < 1e-4


def test_question_answering(exported: Exports) -> None:
    done = exported("bert", "question-answering")
    assert done.manifest["task"] == "question-answering"
    assert done.manifest["outputs"] == ["start_logits", "end_logits"]
    inputs = feeds(done.manifest, 2, 9)
    session = onnxruntime.InferenceSession(done.model_dir / "model.onnx")
    start, end = session.run(["start_logits", "end_logits"], inputs)
    expected = torch_outputs(done, "AutoModelForQuestionAnswering", inputs)
    assert np.abs(start - expected.start_logits.numpy()).max() < 1e-4
    assert np.abs(end - expected.end_logits.numpy()).max() < 1e-4


def test_another_process_writes_the_same_bytes_and_says_nothing(
    exported: Exports, tmp_path: Path
) -> None:
    done = exported("bert")
    code = (
        "import sys; from qdeploy.exporter.export import export_checkpoint as export; "
        "export(sys.argv[1], sys.argv[2])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(done.checkpoint), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (finished.stdout, finished.stderr) == ("", "")
    for name in ("model.onnx", "tokenizer.json", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (done.model_dir / name).read_bytes()
