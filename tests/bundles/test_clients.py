"""Bundles in the libraries that they are for, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from tests.bundles.conftest import TEXTS
from tests.environments import SENTENCE, python_of

pytestmark = [pytest.mark.slow, pytest.mark.integration]
QUERY = "who was king"
CLOSE = 1e-4
Ask = Callable[[Path, str, str, Any], Any]

EMBED = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], backend=sys.argv[2])
texts = json.loads(sys.argv[3])
print(json.dumps({"plain": model.encode(texts).tolist(), "limit": model.max_seq_length,
                  "query": model.encode(texts, prompt_name="query").tolist()}))
"""
RANK = """
import json, sys
from sentence_transformers import CrossEncoder
model = CrossEncoder(sys.argv[1], backend=sys.argv[2])
texts = json.loads(sys.argv[4])
scores = model.predict([(sys.argv[3], text) for text in texts]).tolist()
ranked = [entry["corpus_id"] for entry in model.rank(sys.argv[3], texts)]
print(json.dumps({"scores": scores, "rank": ranked}))
"""
OPTIMUM = """
import json, sys
from transformers import AutoTokenizer, pipeline
place, backend, head, texts = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
if backend == "onnx":
    import optimum.onnxruntime as library
else:
    import optimum.intel as library
prefix = "ORT" if backend == "onnx" else "OV"
model = getattr(library, f"{prefix}ModelFor{head}").from_pretrained(place)
tokenizer = AutoTokenizer.from_pretrained(place)
tasks = {"SequenceClassification": "text-classification", "TokenClassification": "ner",
         "FeatureExtraction": "feature-extraction"}
if head in tasks:
    found = pipeline(tasks[head], model=model, tokenizer=tokenizer)(texts)
else:
    found = []
    for pair in texts:
        outputs = model(**tokenizer(*pair, return_tensors="pt"))
        found.append({name: outputs[name][0].tolist() for name in ("start_logits", "end_logits")})
print(json.dumps(found, default=float))
"""
TARGETS = {"ort-cpu": "onnx", "openvino": "openvino"}


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the environment of sentence-transformers and Optimum."""
    return python_of(SENTENCE)


def said(python: Path, code: str, *arguments: str) -> Any:
    done = subprocess.run(
        [python, "-c", code, *arguments], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("target", TARGETS)
def test_sentence_transformers_embeds(
    target: str, python: Path, engines: Path, tmp_path: Path
) -> None:
    engine = qdeploy.load(engines / f"embeds-{target}")
    qdeploy.bundle(engines / f"embeds-{target}", tmp_path / "out", format="sentence-transformers")
    found = said(python, EMBED, str(tmp_path / "out"), TARGETS[target], json.dumps(TEXTS))
    assert np.abs(np.array(found["plain"]) - engine.encode(TEXTS)).max() < CLOSE
    wanted = engine.encode(TEXTS, prompt_name="query")
    assert np.abs(np.array(found["query"]) - wanted).max() < CLOSE
    assert found["limit"] == engine.max_length


@pytest.mark.parametrize("target", TARGETS)
def test_a_cross_encoder_ranks(target: str, python: Path, engines: Path, tmp_path: Path) -> None:
    engine = qdeploy.load(engines / f"reranker-{target}")
    qdeploy.bundle(engines / f"reranker-{target}", tmp_path / "out", format="sentence-transformers")
    out = str(tmp_path / "out")
    found = said(python, RANK, out, TARGETS[target], QUERY, json.dumps(TEXTS))
    wanted = [answer.score for answer in engine.predict([(QUERY, text) for text in TEXTS])]
    assert np.abs(np.array(found["scores"]) - wanted).max() < CLOSE
    assert found["rank"] == [one.index for one in engine.rank(QUERY, TEXTS)]


@pytest.fixture
def optimum(python: Path, tmp_path: Path) -> Ask:
    """What a model of Optimum says of texts: of an engine, its target, the head's class, texts."""

    def ask(engine: Path, target: str, head: str, texts: Any) -> Any:
        qdeploy.bundle(engine, tmp_path / "out", format="optimum")
        out = str(tmp_path / "out")
        return said(python, OPTIMUM, out, TARGETS[target], head, json.dumps(texts))

    return ask


@pytest.mark.parametrize("target", TARGETS)
def test_optimums_pipeline_classifies(target: str, optimum: Ask, engines: Path) -> None:
    engine = engines / f"classes-{target}"
    found = optimum(engine, target, "SequenceClassification", TEXTS)
    for answer, wanted in zip(found, qdeploy.load(engine).predict(TEXTS), strict=True):
        assert answer["label"] == wanted.label
        assert answer["score"] == pytest.approx(wanted.score, abs=CLOSE)


@pytest.mark.parametrize("target", TARGETS)
def test_optimums_pipeline_names_tokens(target: str, optimum: Ask, other_engines: Path) -> None:
    engine = other_engines / f"tags-{target}"
    found = optimum(engine, target, "TokenClassification", TEXTS)
    wanted = qdeploy.load(engine).entities(TEXTS)
    assert any(wanted)
    for row, entities in zip(found, wanted, strict=True):
        assert [one["entity"] for one in row] == [one.label for one in entities]
        assert [(one["start"], one["end"]) for one in row] == [
            (one.start, one.end) for one in entities
        ]
        assert [one["score"] for one in row] == pytest.approx(
            [one.score for one in entities], abs=CLOSE
        )


@pytest.mark.parametrize("target", TARGETS)
def test_optimum_gives_the_vectors_of_the_tokens(target: str, optimum: Ask, engines: Path) -> None:
    engine = engines / f"embeds-{target}"
    found = optimum(engine, target, "FeatureExtraction", TEXTS)
    for row, wanted in zip(found, qdeploy.load(engine).logits(TEXTS), strict=True):
        assert np.abs(np.array(row[0]) - wanted["token_embeddings"]).max() < CLOSE


@pytest.mark.parametrize("target", TARGETS)
def test_optimum_finds_spans(target: str, optimum: Ask, other_engines: Path) -> None:
    engine = other_engines / f"spans-{target}"
    pairs = [(QUERY, text) for text in TEXTS]
    found = optimum(engine, target, "QuestionAnswering", pairs)
    for row, wanted in zip(found, qdeploy.load(engine).logits(pairs), strict=True):
        for name in ("start_logits", "end_logits"):
            assert np.abs(np.array(row[name]) - wanted[name]).max() < CLOSE
