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
Ask = Callable[[Path, str, Any], Any]
Find = Callable[[str], Path]

# Each makes its `model` by the text that the bundle itself says.
EMBED = """
import json, sys
exec(sys.argv[1])
texts = json.loads(sys.argv[2])
print(json.dumps({"plain": model.encode(texts).tolist(), "limit": model.max_seq_length,
                  "query": model.encode(texts, prompt_name="query").tolist()}))
"""
RANK = """
import json, sys
exec(sys.argv[1])
query, texts = sys.argv[2], json.loads(sys.argv[3])
scores = model.predict([(query, text) for text in texts]).tolist()
ranked = [entry["corpus_id"] for entry in model.rank(query, texts)]
print(json.dumps({"scores": scores, "rank": ranked}))
"""
OPTIMUM = """
import json, sys
from transformers import AutoTokenizer, pipeline
exec(sys.argv[1])
place, head, texts = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
assert type(model).__name__.endswith(f"ModelFor{head}")
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
TARGETS = ("ort-cpu", "openvino")


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the environment of sentence-transformers and Optimum."""
    return python_of(SENTENCE)


def bundled(engine: Path, out: Path, form: str) -> str:
    """What the bundle of an engine says of how it is loaded."""
    return qdeploy.bundle(engine, out, format=form)["use"]


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
    use = bundled(engines / f"embeds-{target}", tmp_path / "out", "sentence-transformers")
    found = said(python, EMBED, use, json.dumps(TEXTS))
    assert np.abs(np.array(found["plain"]) - engine.encode(TEXTS)).max() < CLOSE
    wanted = engine.encode(TEXTS, prompt_name="query")
    assert np.abs(np.array(found["query"]) - wanted).max() < CLOSE
    assert found["limit"] == engine.max_length


@pytest.mark.parametrize("target", TARGETS)
def test_a_cross_encoder_ranks(target: str, python: Path, engines: Path, tmp_path: Path) -> None:
    engine = qdeploy.load(engines / f"reranker-{target}")
    use = bundled(engines / f"reranker-{target}", tmp_path / "out", "sentence-transformers")
    found = said(python, RANK, use, QUERY, json.dumps(TEXTS))
    wanted = [answer.score for answer in engine.predict([(QUERY, text) for text in TEXTS])]
    assert np.abs(np.array(found["scores"]) - wanted).max() < CLOSE
    assert found["rank"] == [one.index for one in engine.rank(QUERY, TEXTS)]


@pytest.fixture
def optimum(python: Path, tmp_path: Path) -> Ask:
    """What Optimum's model says: of an engine, the head as Optimum calls it, and texts."""

    def ask(engine: Path, head: str, texts: Any) -> Any:
        use = bundled(engine, tmp_path / "out", "optimum")
        return said(python, OPTIMUM, use, str(tmp_path / "out"), head, json.dumps(texts))

    return ask


@pytest.mark.parametrize("target", TARGETS)
def test_optimums_pipeline_classifies(target: str, optimum: Ask, engines: Path) -> None:
    engine = engines / f"classes-{target}"
    found = optimum(engine, "SequenceClassification", TEXTS)
    for answer, wanted in zip(found, qdeploy.load(engine).predict(TEXTS), strict=True):
        assert answer["label"] == wanted.label
        assert answer["score"] == pytest.approx(wanted.score, abs=CLOSE)


@pytest.mark.parametrize("target", TARGETS)
def test_optimums_pipeline_names_tokens(target: str, optimum: Ask, other_engine: Find) -> None:
    engine = other_engine(f"tags-{target}")
    found = optimum(engine, "TokenClassification", TEXTS)
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
    found = optimum(engine, "FeatureExtraction", TEXTS)
    for row, wanted in zip(found, qdeploy.load(engine).logits(TEXTS), strict=True):
        assert np.abs(np.array(row[0]) - wanted["token_embeddings"]).max() < CLOSE


@pytest.mark.parametrize("target", TARGETS)
def test_optimum_finds_spans(target: str, optimum: Ask, other_engine: Find) -> None:
    engine = other_engine(f"spans-{target}")
    pairs = [(QUERY, text) for text in TEXTS]
    found = optimum(engine, "QuestionAnswering", pairs)
    for row, wanted in zip(found, qdeploy.load(engine).logits(pairs), strict=True):
        for name in ("start_logits", "end_logits"):
            assert np.abs(np.array(row[name]) - wanted[name]).max() < CLOSE
