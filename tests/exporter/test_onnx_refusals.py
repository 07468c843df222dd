"""ONNX files that cannot be exported: one clear error each, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.errors import CheckpointError, ModelError, QDeployError, VerificationError
from qdeploy.exporter.from_onnx.source import onnx_file_of
from tests import foreign_files as foreign
from tests.exports import Exports


@pytest.fixture(scope="module")
def made(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with model.onnx, config.json and tokenizer, not to be changed."""
    home = tmp_path_factory.mktemp("made") / "bert"
    shutil.copytree(exported().checkpoint, home)
    foreign.torchscript(home, home / "model.onnx")
    (home / "model.safetensors").unlink()
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bert"))


def refused(home: Path, tmp_path: Path, match: str, kind: type[QDeployError], **more: Any) -> None:
    with pytest.raises(kind, match=match):
        qdeploy.export(home, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def change(home: Path, edit: Callable[[ir.Model], None]) -> None:
    model = ir.load(home / "model.onnx")
    edit(model)
    ir.save(model, home / "model.onnx")


def config(home: Path, **fields: object) -> None:
    path = home / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_quantized_already(home: Path, tmp_path: Path) -> None:
    source = (home / "model.onnx").rename(tmp_path / "float.onnx")
    foreign.dynamic_int8(source, home / "model.onnx")
    refused(home, tmp_path, "is quantized already.*Pass the FP32 file", CheckpointError)


def test_no_tokenizer_and_no_config(home: Path, tmp_path: Path) -> None:
    (home / "tokenizer.json").rename(tmp_path / "kept.json")
    refused(home, tmp_path, "There is no tokenizer in .*--tokenizer DIR", CheckpointError)
    (home / "config.json").unlink()
    refused(home, tmp_path, "There is no config.json in .*--tokenizer DIR", CheckpointError)
    refused(
        home, tmp_path, "is no directory. --tokenizer takes", CheckpointError, tokenizer="nowhere"
    )


def test_a_tokenizer_is_of_onnx_files_alone(exported: Exports, tmp_path: Path) -> None:
    checkpoint = exported().checkpoint
    with pytest.raises(CheckpointError, match="--tokenizer is for ONNX files"):
        qdeploy.export(checkpoint, tmp_path / "out", tokenizer=checkpoint)


def test_a_larger_vocabulary_than_the_table(home: Path, tmp_path: Path) -> None:
    path = home / "tokenizer.json"
    text = json.loads(path.read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary |= {f"more{at}": len(vocabulary) + at for at in range(600)}
    path.write_text(json.dumps(text))
    refused(home, tmp_path, "and the model embeds 512: it is the tokenizer of", CheckpointError)


def test_other_classes_than_the_graph_has(home: Path, tmp_path: Path) -> None:
    config(home, id2label={"0": "a", "1": "b", "2": "c"})
    refused(home, tmp_path, "names 3 classes.* and the graph gives 2 logits", CheckpointError)


def test_more_positions_than_the_table(home: Path, tmp_path: Path) -> None:
    config(home, max_position_embeddings=512)
    settings = home / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 512}))
    refused(home, tmp_path, "may have 512 tokens, and the file does not run", CheckpointError)


def test_another_task_than_the_outputs_have(home: Path, tmp_path: Path) -> None:
    match = r"gives logits \[B, C\], and the outputs of a head for question-answering"
    refused(home, tmp_path, match, CheckpointError, task="question-answering")


def test_weights_that_lie_elsewhere(home: Path, tmp_path: Path) -> None:
    model = ir.load(home / "model.onnx")
    ir.save(model, home / "model.onnx", external_data="model.onnx_data")
    (home / "model.onnx_data").unlink()
    refused(home, tmp_path, "model.onnx_data", ModelError)


def test_a_decoder(home: Path, tmp_path: Path) -> None:
    def past(model: ir.Model) -> None:
        more = ir.Input("past_key_values.0.key", ir.Shape(["b", 4, "p", 8]))
        more.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.inputs.append(more)

    change(home, past)
    refused(home, tmp_path, "takes past_key_values.0.key: it is a decoder", CheckpointError)


def test_an_input_that_is_not_known(home: Path, tmp_path: Path) -> None:
    def rename(model: ir.Model) -> None:
        model.graph.inputs[0].name = "pixel_values"

    change(home, rename)
    refused(home, tmp_path, "takes pixel_values, which is none of input_ids", CheckpointError)


def test_no_mask(home: Path, tmp_path: Path) -> None:
    def drop(model: ir.Model) -> None:
        mask = next(v for v in model.graph.inputs if v.name == "attention_mask")
        ids = next(v for v in model.graph.inputs if v.name == "input_ids")
        mask.replace_all_uses_with(ids)
        model.graph.inputs.remove(mask)

    change(home, drop)
    refused(home, tmp_path, "and no attention_mask. The logits of a row", CheckpointError)


def test_a_mask_that_nothing_reads(home: Path, tmp_path: Path) -> None:
    def unread(model: ir.Model) -> None:
        mask = next(v for v in model.graph.inputs if v.name == "attention_mask")
        ids = next(v for v in model.graph.inputs if v.name == "input_ids")
        mask.replace_all_uses_with(ids)

    change(home, unread)
    refused(home, tmp_path, "does not read its attention_mask, so that", CheckpointError)


def test_weights_in_four_bits(home: Path, tmp_path: Path) -> None:
    source = (home / "model.onnx").rename(tmp_path / "float.onnx")
    foreign.four_bits(source, home / "model.onnx")
    match = r"is quantized already \(it has MatMulNBits nodes\).*Pass the FP32 file"
    refused(home, tmp_path, match, CheckpointError)


def test_an_operator_without_a_rule(home: Path, tmp_path: Path) -> None:
    def fuse(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Tanh")
        node.domain, node.op_type = "com.microsoft", "BiasDropout"
        model.opset_imports["com.microsoft"] = 1

    change(home, fuse)
    refused(home, tmp_path, "BiasDropout|does not run", CheckpointError)


def test_an_old_opset(home: Path, tmp_path: Path) -> None:
    def age(model: ir.Model) -> None:
        model.opset_imports[""] = 9

    change(home, age)
    refused(home, tmp_path, "is of opset 9, and 11 or later", CheckpointError)


def test_several_files_and_none_of_them_first(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for name in ("model_fp16.onnx", "model_q8.onnx"):
        (tmp_path / "onnx" / name).touch()
    with pytest.raises(CheckpointError, match=r"has 2 ONNX files and no model\.onnx: onnx/model_f"):
        onnx_file_of(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist. Pass an ONNX file"):
        onnx_file_of(tmp_path / "none.onnx")


def test_a_rewrite_that_is_wrong_is_found(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written graph is held against the file: a step that changes one weight is caught."""
    from qdeploy.exporter.from_onnx import canonical, convert

    finish = canonical.finish

    def wrong(prepared: object, origin: str) -> None:
        finish(prepared, origin)  # type: ignore[arg-type]
        weights = prepared.model.graph.initializers  # type: ignore[attr-defined]
        value = weights["bert.encoder.layer.0.output.dense.weight"]
        array = np.array(value.const_value.numpy())
        array[0] *= 1.01
        value.const_value = ir.Tensor(array, name=value.name)

    monkeypatch.setattr(convert, "finish", wrong)
    refused(home, tmp_path, "differs from the file by", VerificationError)
