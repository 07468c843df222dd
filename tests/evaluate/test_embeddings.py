"""Embedding engines: `encode` as the model embeds, output precisions, and how near two are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import qdeploy
from qdeploy.errors import DataError, GateError, PlanError, QDeployWarning
from qdeploy.evaluate.embeddings import (
    closeness,
    cut,
    neighbour_quality,
    recall_at,
    stored,
    unit,
)
from qdeploy.head import EMBEDDINGS, Head
from qdeploy.types import Array
from tests.once import Once
from tests.sentence_models import sentence_checkpoint

TEXTS = ["the river of the north", "king", "what is the name of the old city and its school", "war"]
HEAD = Head(EMBEDDINGS, (), embedding={"pooling": ["mean"], "dimension": 8, "normalized": True})


@pytest.fixture(scope="module")
def engine(once: Once) -> Path:
    """An FP32 engine of a tiny embedding model with prompts; not to be changed."""

    def make(home: Path) -> None:
        more = {"prompts": {"query": "what is ", "none": ""}, "default_prompt_name": "query"}
        sentence_checkpoint(home / "checkpoint", more=more)
        qdeploy.export(home / "checkpoint", home / "model")
        qdeploy.build(home / "model", home / "engine", strategy="fp32")

    return once("embeds", 1, make)[0]


def expected(home: Path, texts: list[str]) -> Array:
    """Mean pooling of each text by itself, in torch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(home / "checkpoint")
    model = transformers.AutoModel.from_pretrained(home / "checkpoint").eval()
    found = []
    for text in texts:
        with torch.no_grad():
            tokens = model(**tokenizer(text, return_tensors="pt"))[0][0]
        found.append(tokens.mean(dim=0).numpy())
    return unit(np.stack(found))


def test_texts_are_embedded_with_the_default_prompt(engine: Path) -> None:
    model = qdeploy.load(engine / "engine")
    found = model.encode(TEXTS)
    assert found.shape == (4, 32)
    assert found.dtype == np.float32
    assert np.abs(found - expected(engine, [f"what is {text}" for text in TEXTS])).max() < 1e-5
    plain = expected(engine, TEXTS)
    assert np.abs(model.encode(TEXTS, prompt_name="none") - plain).max() < 1e-5
    assert np.abs(model.encode(TEXTS, prompt="") - plain).max() < 1e-5
    assert np.abs(found - plain).max() > 1e-3


def test_the_whole_outputs_of_a_text(engine: Path) -> None:
    rows = qdeploy.load(engine / "engine").logits(TEXTS)
    assert rows[1]["sentence_embedding"].shape == (32,)
    assert rows[1]["token_embeddings"].shape[1] == 32
    assert len(rows[2]["token_embeddings"]) > len(rows[1]["token_embeddings"])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m.predict(TEXTS), PlanError, "encode"),
        (lambda m: m.encode([("a", "b")]), DataError, "takes texts"),
        (lambda m: m.logits([("a", "b")]), DataError, "takes texts"),
        (lambda m: m.encode(TEXTS, prompt_name="quory"), PlanError, "query"),
        (lambda m: m.encode(TEXTS, prompt_name="query", prompt="x"), PlanError, "not both"),
        (lambda m: m.encode(TEXTS, output_precision="int4"), PlanError, "int8"),
        (lambda m: m.encode(TEXTS, truncate_dim=33), PlanError, "1 to 32"),
    ],
)
def test_wrong_use(call: Any, error: type[Exception], text: str, engine: Path) -> None:
    with pytest.raises(error, match=text):
        call(qdeploy.load(engine / "engine"))


def test_a_classifier_does_not_embed(home: Path) -> None:
    with pytest.raises(PlanError, match=r"Call predict\(\)"):
        qdeploy.load(home / "engine").encode(TEXTS)


def written(path: Path) -> list[list[float]]:
    return [json.loads(line)["embedding"] for line in path.read_text("utf-8").splitlines()]


def test_a_file_of_texts(engine: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("\n".join(TEXTS), "utf-8")
    out = tmp_path / "out.jsonl"
    qdeploy.predict_file(engine / "engine", rows, out=out, prompt_name="none", truncate_dim=16)
    found = np.array(written(out))
    wanted = unit(expected(engine, TEXTS)[:, :16])
    assert np.abs(found - wanted).max() < 1e-5
    qdeploy.predict_file(engine / "engine", rows, out=out, output_precision="binary")
    assert all(len(vector) == 4 for vector in written(out))


def test_precisions_keep_what_they_say() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    codes = stored(vectors, "int8")
    assert codes.dtype == np.int8
    cosines = np.einsum("nd,nd->n", unit(codes.astype(np.float32)), unit(vectors))
    assert cosines.min() > 0.999
    bits = np.unpackbits(stored(vectors, "binary"), axis=1)
    assert np.array_equal(bits, vectors > 0)
    assert np.allclose(np.linalg.norm(cut(vectors, HEAD, 16), axis=1), 1)


def test_closeness_of_equal_and_of_other_embeddings() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 16)).astype(np.float32)
    same = closeness(vectors, 3 * vectors)
    assert same.cosine_mean == pytest.approx(1)
    assert same.recall == 1
    other = closeness(vectors, rng.normal(size=(60, 16)).astype(np.float32))
    assert abs(other.cosine_mean) < 0.2
    assert other.recall is not None
    assert other.recall < 0.4
    assert closeness(vectors[:10], vectors[:10]).recall is None


def test_recall_by_hand_with_a_text_that_stands_twice() -> None:
    angles = np.radians([0, 0, 10, 25, 45, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    moved = vectors.copy()
    moved[3] = (np.cos(np.radians(170)), np.sin(np.radians(170)))  # is near the last one by now
    assert recall_at(vectors, vectors, 1) == 1
    # of five texts: 0 ↔ 10, 10 → 0, 25 → 10 no more, 45 → 25 no more, 180 → 45 no more
    assert recall_at(vectors, moved, 1) == pytest.approx(2 / 5)


@pytest.mark.integration
def test_neighbours_are_the_gate_where_no_scores_are(engine: Path, tmp_path: Path) -> None:
    words = ["river", "north", "king", "name", "old", "city", "school", "war"]
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=draw.randint(2, 9))) for _ in range(60)]
    data, few = tmp_path / "rows.jsonl", tmp_path / "few.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    few.write_text("\n".join(json.dumps({"text": text}) for text in texts[:4]))
    base = engine / "engine"
    qdeploy.build(
        engine / "model", tmp_path / "e", strategy="w8a8", data=str(data), calibration_rows=16
    )
    given: Any = {"baseline": base, "latency": False}
    with pytest.warns(QDeployWarning, match="Quality was not measured"):
        report = qdeploy.evaluate(tmp_path / "e", data=data, max_drop=100, **given)
    assert report["baseline"] is not None
    near = report["baseline"]["embeddings"]
    assert near["recall_at_10"] < 1
    lost = 100 * (1 - near["recall_at_10"])
    with (
        pytest.warns(QDeployWarning, match="Quality was not measured"),
        pytest.raises(GateError, match=rf"^{lost:.2f} % of the ten nearest texts .* are lost"),
    ):
        qdeploy.evaluate(tmp_path / "e", data=data, max_drop=0, **given)
    with pytest.raises(PlanError, match="--max-drop needs .* too few texts to look for the ten"):
        qdeploy.evaluate(tmp_path / "e", data=few, max_drop=100, **given)


def test_the_recall_has_an_interval_and_is_one_of_fp32_itself() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 16)).astype(np.float32)
    noisy = vectors + rng.normal(0, 0.3, vectors.shape).astype(np.float32)
    (found,) = neighbour_quality(noisy, vectors)["figures"]
    assert found["value"] == pytest.approx(recall_at(unit(vectors), unit(noisy)))
    assert found["baseline"] == 1 and found["drop"] == pytest.approx(1 - found["value"])
    assert found["drop_ci95"] is not None and found["ci95"][0] < found["value"] < found["ci95"][1]
    assert found["drop_ci95"][0] == pytest.approx(1 - found["ci95"][1])
    assert neighbour_quality(vectors, None)["figures"][0]["value"] == 1
    with pytest.raises(DataError, match="4 texts have no 10 others each to look for"):
        neighbour_quality(vectors[:4], None)
