"""`qdeploy predict` says of every head what `load` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.api import predict_file
from qdeploy.errors import PlanError
from qdeploy.evaluate import loaded_engine as subject
from tests.evaluate.bag import BagEngine, engine_directory, table
from tests.evaluate.row_files import answers, bag, rows_file

VALUES = {"problem_type": "regression"}


@bag
@pytest.mark.parametrize(
    ("labels", "head", "fields"),
    [
        (["a", "b"], {"problem_type": "multi_label_classification"}, ("labels", "scores")),
        (["a", "b"], {"problem_type": "single_label_classification"}, ("label", "score")),
        (["x"], VALUES, ("score",)),
        (["x"], {}, ("score",)),
        (["x", "y"], VALUES, ("scores",)),
    ],
)
def test_heads_say_what_load_says(
    tmp_path: Path, labels: list[str], head: dict[str, Any], fields: tuple[str, ...]
) -> None:
    votes = np.ascontiguousarray(table()[:, : len(labels)])
    engine = engine_directory(tmp_path / "e", votes, labels=labels, head=head)
    texts, out = ["yes no w1", "w3 w4", "yes"], tmp_path / "answers.jsonl"
    predict_file(engine, rows_file(tmp_path / "rows.csv", texts), out=out, logits=True)
    found, predictor = answers(out), qdeploy.load(engine)
    assert all(tuple(row) == (*fields, "logits") for row in found)
    for row, logits in zip(found, predictor.logits(texts), strict=True):
        np.testing.assert_array_equal(np.float32(row["logits"]), logits["logits"])
    for row, one in zip(found, predictor.predict(texts), strict=True):
        assert row.get("label", one.label) == one.label
        assert row.get("score", one.score) == pytest.approx(one.score)
        assert row.get("scores", one.scores) == pytest.approx(one.scores)
        assert row.get("labels", list(one.labels)) == list(one.labels)


@bag
def test_a_token_classifier_says_what_load_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tokens(BagEngine):
        def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            return {"logits": self.votes[feeds["input_ids"]]}

    monkeypatch.setattr(subject, "open_engine", lambda *_, **__: Tokens(table()))
    engine = engine_directory(tmp_path / "e", task="token-classification", labels=["O", "PER"])
    texts, out = ["yes no w1", "no", "yes"], tmp_path / "answers.jsonl"
    path = rows_file(tmp_path / "rows.csv", texts)
    predict_file(engine, path, out=out)
    expected = qdeploy.load(engine).entities(texts)
    assert any(expected)
    for row, entities in zip(answers(out), expected, strict=True):
        assert set(row) == {"entities"}
        for found, entity in zip(row["entities"], entities, strict=True):
            assert found == asdict(entity) | {"score": pytest.approx(entity.score)}
    with pytest.raises(PlanError, match="names the tokens of one text"):
        predict_file(engine, path, out=out, columns="text,id")
