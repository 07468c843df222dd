"""Bundles in the libraries that they are for, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
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
PIPELINE = """
import json, sys
from transformers import AutoTokenizer, pipeline
if sys.argv[2] == "onnx":
    from optimum.onnxruntime import ORTModelForSequenceClassification as Model
else:
    from optimum.intel import OVModelForSequenceClassification as Model
model = Model.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
run = pipeline("text-classification", model=model, tokenizer=tokenizer)
print(json.dumps(run(json.loads(sys.argv[3]))))
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


@pytest.mark.parametrize("target", TARGETS)
def test_optimums_pipeline_classifies(
    target: str, python: Path, engines: Path, tmp_path: Path
) -> None:
    engine = qdeploy.load(engines / f"classes-{target}")
    qdeploy.bundle(engines / f"classes-{target}", tmp_path / "out", format="optimum")
    found = said(python, PIPELINE, str(tmp_path / "out"), TARGETS[target], json.dumps(TEXTS))
    for answer, wanted in zip(found, engine.predict(TEXTS), strict=True):
        assert answer["label"] == wanted.label
        assert answer["score"] == pytest.approx(wanted.score, abs=CLOSE)
