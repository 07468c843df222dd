"""Embedding models that come as ONNX files: pooling from their directory, asked for, or seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import qdeploy
from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.pooling import pool, pooling_of
from qdeploy.graph.sites import find_structure
from qdeploy.sentence_layout import POOLING_MODES
from tests import foreign_files as foreign
from tests.sentence_models import sentence_checkpoint
from tests.tiny import tiny_checkpoint


def embedding_file(home: Path, **settings: object) -> Path:
    """A directory as sentence-transformers' ONNX backend saves it: onnx/model.onnx, no weights."""
    sentence_checkpoint(home, **settings)  # type: ignore[arg-type]
    (home / "onnx").mkdir()
    foreign.torchscript(home, home / "onnx" / "model.onnx", "sentence-embedding")
    (home / "model.safetensors").unlink()
    return home


def test_parts_of_the_directory_become_operators(tmp_path: Path) -> None:
    home = embedding_file(tmp_path / "st", parts=("LayerNorm", "Dense", "Normalize"))
    manifest = qdeploy.export(home, tmp_path / "out")
    assert manifest["task"] == "sentence-embedding"
    assert manifest["outputs"] == ["sentence_embedding", "token_embeddings"]
    facts = manifest["head"]["embedding"]
    assert facts is not None
    assert (facts["pooling"], facts["dimension"], facts["normalized"]) == (["mean"], 24, True)
    assert manifest["verification"]["max_rel_diff"] < 1e-5


@pytest.mark.parametrize(
    "mode", ["lasttoken", *(pytest.param(m, marks=pytest.mark.slow) for m in POOLING_MODES)]
)
def test_every_pooling(mode: str, tmp_path: Path) -> None:
    home = embedding_file(tmp_path / "st", pooling=mode, parts=())
    manifest = qdeploy.export(home, tmp_path / "out")
    facts = manifest["head"]["embedding"]
    assert facts is not None and facts["pooling"] == [mode]
    assert manifest["verification"]["max_rel_diff"] < 1e-5


def test_pooling_is_asked_for(tmp_path: Path) -> None:
    home = embedding_file(tmp_path / "st", parts=())
    (home / "modules.json").unlink()
    with pytest.raises(CheckpointError, match="--pooling mean, or --pooling cls"):
        qdeploy.export(home, tmp_path / "out")
    manifest = qdeploy.export(home, tmp_path / "out", pooling="cls")
    facts = manifest["head"]["embedding"]
    assert facts is not None and facts["pooling"] == ["cls"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    ids = np.array([[5, 6, 7, 8]])
    feeds = {"input_ids": ids, "attention_mask": ids // ids, "token_type_ids": ids * 0}
    row, tokens = session.run(["sentence_embedding", "token_embeddings"], feeds)
    np.testing.assert_array_equal(row, tokens[:, 0])


def test_an_encoder_of_t5(tmp_path: Path) -> None:
    """Without positions, and normalized by the root of the mean square."""
    checkpoint = tiny_checkpoint(tmp_path / "home", "bert")
    (checkpoint / "model.safetensors").unlink()
    foreign.t5_encoder(checkpoint)
    manifest = qdeploy.export(checkpoint, tmp_path / "out", pooling="mean")
    assert manifest["task"] == "sentence-embedding"
    assert manifest["model_type"] == "t5" and manifest["hidden_size"] == 32
    assert manifest["verification"]["max_rel_diff"] < 1e-5
    # four of attention and two of the feed-forward block in each layer
    assert len(find_structure(ir.load(tmp_path / "out" / "model.onnx")).gemms) == 12


def test_pooling_inside_a_file_is_recognised() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 5, 8))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    for mode in POOLING_MODES:
        assert pooling_of(tokens, pool(mode, tokens, mask), mask) == ((mode,), False)
    unit = pool("mean", tokens, mask)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    assert pooling_of(tokens, unit, mask) == (("mean",), True)
    assert pooling_of(tokens, rng.normal(size=(3, 8)), mask) is None
    assert pooling_of(tokens, rng.normal(size=(3, 4)), mask) is None
