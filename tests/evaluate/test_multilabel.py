"""Figures of multi-label classifiers: against scikit-learn, and a bootstrap of rows."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest

from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns
from qdeploy.data.tokens import joined
from qdeploy.errors import DataError
from qdeploy.evaluate.label_sets import label_sets
from qdeploy.evaluate.multilabel import LabelSets, average_precision, multilabel_quality
from qdeploy.schemas.quality import main_figure
from qdeploy.types import Array

metrics = pytest.importorskip("sklearn.metrics")
CLASSES = ("joy", "Anger", "new class", "fear")


def answers(seed: int, rows: int, classes: int, noise: float, *, ties: bool = False) -> LabelSets:
    """Rare and common classes, the last without a row, and logits that follow them."""
    rng = np.random.default_rng(seed)
    gold = rng.random((rows, classes)) < np.linspace(0.5, 0.02, classes)
    gold[:, -1] = False
    gold[0, 0] = True
    logits = 3.0 * gold - 1.5 + noise * np.random.default_rng(seed + 1).normal(size=gold.shape)
    if ties:
        logits = np.round(logits)
    return LabelSets(gold, logits.astype(np.float32), 0.5)


def figures(found: Any) -> dict[str, Any]:
    return {figure["name"]: figure for figure in found["figures"]}


def reference(of: LabelSets, drawn: Array | None = None) -> dict[str, float]:
    """What scikit-learn says."""
    rows = np.arange(len(of.gold)) if drawn is None else drawn
    gold, said, logits = of.gold[rows], (of.logits > 0)[rows], of.logits[rows]
    there = [at for at in range(gold.shape[1]) if gold[:, at].any()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "micro F1": metrics.f1_score(gold, said, average="micro"),
            "macro F1": metrics.f1_score(gold, said, average="macro", zero_division=np.nan),
            "mean average precision": np.mean(
                [metrics.average_precision_score(gold[:, at], logits[:, at]) for at in there]
            ),
            "subset accuracy": metrics.accuracy_score(gold, said),
        }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("rows", [5, 60, 700])
def test_they_are_scikit_learns(rows: int, classes: int, ties: bool) -> None:
    own, base = (answers(rows, rows, 1 + classes, noise, ties=ties) for noise in (3.0, 1.5))
    found = figures(multilabel_quality(own, base))
    expected, before = reference(own), reference(base)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["baseline"] == pytest.approx(before[name])
        assert found[name]["drop"] == pytest.approx(before[name] - value)


@pytest.mark.parametrize("name", ["micro F1", "mean average precision"])
def test_the_interval_is_that_of_a_bootstrap_of_rows(name: str) -> None:
    own, base = (answers(3, 300, 5, noise) for noise in (3.0, 1.5))
    found = figures(multilabel_quality(own, base))[name]
    rng = np.random.default_rng(5)
    drops = []
    for _ in range(300):
        drawn = rng.integers(0, 300, 300)
        drops.append(reference(base, drawn)[name] - reference(own, drawn)[name])
    low, high = np.percentile(drops, (2.5, 97.5))
    assert found["drop_ci95"] == pytest.approx([low, high], abs=0.2 * (high - low))
    assert 0 < found["drop_ci95"][0] < found["drop"] < found["drop_ci95"][1]


def test_draws_in_parts_are_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = answers(3, 100, 4, 3.0)
    at_once = multilabel_quality(own, None)
    monkeypatch.setattr("qdeploy.evaluate.multilabel._HELD", 700)  # seven draws of 100 rows
    assert multilabel_quality(own, None) == at_once


def test_an_average_precision_counts_a_row_as_often_as_it_was_drawn() -> None:
    own = answers(7, 80, 2, 3.0, ties=True)
    drawn = np.random.default_rng(0).integers(0, 80, 80)
    weights = np.bincount(drawn, minlength=80).astype(np.float32)[:, None]
    gold, logits = own.gold[:, 0], own.logits[:, 0]
    expected = metrics.average_precision_score(gold[drawn], logits[drawn])
    assert average_precision(gold, logits, weights)[0] == pytest.approx(expected)
    assert np.isnan(average_precision(gold, logits, (~gold)[:, None].astype(np.float32))).all()


def test_the_threshold_is_a_probability() -> None:
    gold = np.array([[True, False], [False, True]])
    logits = np.array([[0.1, -3.0], [-3.0, 4.0]], np.float32)
    strict = multilabel_quality(LabelSets(gold, logits, 0.9), None)
    assert main_figure(strict)["value"] == pytest.approx(2 / 3)  # one of two is said
    assert strict["threshold"] == 0.9
    assert main_figure(multilabel_quality(LabelSets(gold, logits, 0.5), None))["value"] == 1


def test_20_000_rows_of_28_classes_take_seconds() -> None:
    own, base = (answers(0, 20_000, 28, noise) for noise in (3.0, 2.9))
    began = time.process_time()
    multilabel_quality(own, base)
    assert time.process_time() - began < 40  # ranked anew in each draw, it is minutes


# Labels


def rows(labels: list[list[str]]) -> Rows:
    texts = tuple(f"text {at}" for at in range(len(labels)))
    return Rows(texts, None, tuple(map(joined, labels)), "rows.jsonl", tuple(range(len(labels))))


TEXT = Columns("text", None, "labels")
SETS = [["joy", "new class"], [], ["fear"]]
GOLD = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (SETS, TEXT),
        ([["Joy", "new-class"], [], ["FEAR"]], TEXT),
        ([["0", "2"], [], ["3"]], TEXT),
        ([["2", "0"], [], ["LABEL_3"]], TEXT),
        ([["1", "0", "1", "0"], ["0"] * 4, ["0", "0", "0", "1"]], TEXT),
        (SETS, Columns("text", None, "label", classes=("fear", "joy", "new class", "anger"))),
    ],
)
def test_classes_of_rows(labels: list[list[str]], places: Columns) -> None:
    assert label_sets(rows(labels), CLASSES, places).tolist() == GOLD


def test_columns_stand_for_classes_without_names() -> None:
    generic = [f"LABEL_{at}" for at in range(4)]
    places = Columns("text", None, "label", classes=("joy", "anger", "new class", "fear"))
    assert label_sets(rows(SETS), generic, places).tolist() == GOLD


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [["joy"], ["hate"]],
            r"row 2: the label 'hate' is no class .* joy, Anger, new class, fear",
        ),
        ([["joy|fear"]], r"pass --label-separator '\|'"),
        ([["0,3"]], "pass --label-separator ','"),
        ([["4"]], "'4' is no class"),
        ([["joy", "1"]], "'1' is no class"),
        ([["0", "1", "0"]], "3 labels, and one stands there twice"),
        ([[], []], "none of 2 rows has a class"),
        ([["0", "0", "0", "0"]], "none of 1 rows has a class"),
    ],
)
def test_labels_that_are_none(labels: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_sets(rows(labels), CLASSES, TEXT)


def test_lists_that_may_be_read_in_two_ways() -> None:
    two = ("joy", "fear")
    with pytest.raises(DataError, match=r"labels of a row are 0 and 1, .* no row tells"):
        label_sets(rows([["0", "1"], ["1", "0"]]), two, TEXT)
    told = label_sets(rows([["0", "1"], ["1", "0"], ["1", "1"]]), two, TEXT)
    assert told.tolist() == [[False, True], [True, False], [True, True]]
    assert label_sets(rows([["0", "1"], ["1"]]), two, TEXT).tolist() == [[1, 1], [0, 1]]
    assert label_sets(rows([["0"], ["1"]]), ("joy",), TEXT).tolist() == [[0], [1]]


def test_columns_that_are_not_the_models_classes() -> None:
    places = Columns("text", None, "label", classes=("joy", "fear"))
    with pytest.raises(DataError, match=r"each of the 4 classes .* there is none for Anger, new"):
        label_sets(rows([["joy"]]), CLASSES, places)
