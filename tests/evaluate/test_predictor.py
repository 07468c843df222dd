"""`qdeploy.load(engine_dir)`: labels and scores for a caller's own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.errors import DataError, ModelError, PlanError
from qdeploy.evaluate import loaded_engine as subject
from qdeploy.evaluate.answers import sigmoid, softmax
from qdeploy.evaluate.predictor import Predictor
from qdeploy.files.integrity import SHA256
from tests.evaluate.bag import CLASSES, WORDS, BagEngine, engine_directory, table

pytestmark = pytest.mark.usefixtures("numpy_engines")


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(engine_directory(tmp_path / "engine"))


def test_pairs_get_labels_in_their_order(predictor: Predictor) -> None:
    pairs = [("w1", "yes"), ("w2 w3 w4", "no"), ("w5", "w6 yes")]
    found = predictor.predict(pairs, batch_size=2)
    assert [p.label for p in found] == ["entailment", "not_entailment", "entailment"]
    for prediction in found:
        assert tuple(prediction.scores) == CLASSES
        assert sum(prediction.scores.values()) == pytest.approx(1)
        assert prediction.score == max(prediction.scores.values()) > 0.7


def test_single_texts(predictor: Predictor) -> None:
    (found,) = predictor.predict(["yes yes"])
    ids = [WORDS.index(word) for word in ("[CLS]", "yes", "yes", "[SEP]")]
    logits = table()[ids].sum(axis=0)
    assert found.score == pytest.approx(1 / (1 + np.exp(logits[1] - logits[0])))


def test_longer_texts_are_cut(predictor: Predictor) -> None:
    assert predictor.predict(["yes " + "no " * 500])[0].label == "not_entailment"


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "No rows were given"), ("yes", "One string was given"), (("a", "b"), "A tuple of 2")],
)
def test_wrong_input(predictor: Predictor, texts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictor.predict(texts)
    with pytest.raises(DataError, match=message):
        predictor.logits(texts)


def test_wrong_use(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="batch size is 0, and a whole number from 1"):
        predictor.predict(["yes"], batch_size=0)
    with pytest.raises(PlanError, match="threads is 0"):
        Predictor(tmp_path, threads=0)
    with pytest.raises(ModelError, match="does not exist"):
        Predictor(tmp_path / "none")


def test_logits_of_a_classifier(predictor: Predictor) -> None:
    found = predictor.logits(["yes", "no no w1"])
    assert [row["logits"].shape for row in found] == [(2,), (2,)]
    assert found[0]["logits"][0] > found[0]["logits"][1]


def test_logits_of_question_answering_come_without_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_spans(directory: Path, *, threads: int, simulate: bool, how: str) -> BagEngine:
        assert not simulate and how == SHA256
        engine = BagEngine(table(), threads)
        engine.output_names = ("start_logits", "end_logits")
        return engine

    monkeypatch.setattr(subject, "open_engine", open_spans)
    predictor = Predictor(engine_directory(tmp_path / "qa", task="question-answering"))
    with pytest.raises(PlanError, match=r"question-answering engine.* Call answer\(\)"):
        predictor.predict([("a", "b")])
    short, long = predictor.logits([("w1", "yes"), ("w1 w2 w3", "no w4")])
    assert short["start_logits"].shape == (5,) and long["end_logits"].shape == (8,)
    assert int(np.argmax(short["start_logits"])) == 3  # [CLS] w1 [SEP] yes [SEP]


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=5))
def test_softmax(logits: list[float]) -> None:
    scores = softmax(np.array([logits], np.float32))[0]
    assert scores.sum() == pytest.approx(1) and (scores >= 0).all()
    assert scores[int(np.argmax(logits))] == scores.max()


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5))
def test_sigmoid(logits: list[float]) -> None:
    scores = sigmoid(np.array(logits, np.float32))
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(scores, 0.5 * (1 + np.tanh(0.5 * np.array(logits))), atol=1e-12)
