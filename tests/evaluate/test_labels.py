"""The order of classes: the model's, GLUE's where it has none, and a swapped one found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import Rows, find_task
from qdeploy.errors import DataError, ModelError
from qdeploy.evaluate.labels import (
    ClassOrder,
    class_order,
    gold_indices,
    same_classes,
    swapped_order,
)

QNLI = find_task("qnli")
MODEL = ClassOrder(("entailment", "not_entailment"), "model")


def rows(*labels: str) -> Rows:
    texts = tuple("t" for _ in labels)
    return Rows(texts, None, labels, "x.tsv", tuple(range(len(labels))))


def test_the_model_decides_the_order() -> None:
    order = class_order(["not_entailment", "entailment"], QNLI)
    assert order == ClassOrder(("not_entailment", "entailment"), "model")
    assert gold_indices(rows("entailment", "not_entailment"), order).tolist() == [1, 0]


def test_generic_names_take_the_order_of_glue() -> None:
    assert class_order(["LABEL_0", "LABEL_1"], QNLI) == ClassOrder(QNLI.classes, "glue")
    three = class_order(["LABEL_0", "LABEL_1", "LABEL_2"], QNLI)
    assert three == ClassOrder(("LABEL_0", "LABEL_1", "LABEL_2"), "model")


def test_spelling_of_classes_does_not_matter() -> None:
    labels = rows("Entailment", "NOT-ENTAILMENT", "not entailment")
    assert gold_indices(labels, MODEL).tolist() == [0, 1, 1]
    order = ClassOrder(("NEGATIVE", "POSITIVE"), "model")
    assert gold_indices(rows("positive", "negative"), order).tolist() == [1, 0]


def test_index_labels_are_the_models_indices() -> None:
    order = ClassOrder(("contradiction", "neutral", "entailment"), "model")
    assert gold_indices(rows("2", "0", "1"), order).tolist() == [2, 0, 1]
    named = ClassOrder(("1", "5"), "model")  # star ratings: the names are digits themselves
    assert gold_indices(rows("5", "1"), named).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("entailment", "entailment"), "all 2 rows are of the class 'entailment'"),
        (
            ("entailment", "maybe"),
            r"row 2 has the class 'maybe', and the model knows entailment, n",
        ),
        (("0", "1", "2"), r"row 3 has the class '2'"),
    ],
)
def test_classes_that_do_not_fit(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        gold_indices(rows(*labels), MODEL)


def test_no_labels_and_no_classes() -> None:
    unlabelled = Rows(("t",), None, None, "x.tsv", (0,))
    with pytest.raises(DataError, match=r"x\.tsv has no label column.*--columns label=COLUMN"):
        gold_indices(unlabelled, MODEL)
    with pytest.raises(ModelError, match="has 1 class: a regression has no accuracy"):
        class_order(["LABEL_0"], QNLI)


def test_a_baseline_may_have_the_classes_in_another_order() -> None:
    other = ClassOrder(("NOT-entailment", "entailment"), "model")
    assert same_classes(MODEL, other) == [1, 0]
    with pytest.raises(ModelError, match="baseline has the classes a, b"):
        same_classes(MODEL, ClassOrder(("a", "b"), "model"))


def predictions(accuracy: float, n: int = 400, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    gold = np.arange(n) % classes
    predicted = np.where(np.arange(n) < accuracy * n, gold, (gold + 1) % classes)
    return predicted, gold


def test_a_swapped_order_is_found() -> None:
    found = swapped_order(*predictions(0.13), MODEL.names)
    assert found is not None
    assert found.names == ("not_entailment", "entailment")
    assert found.accuracy == pytest.approx(0.87)


@pytest.mark.parametrize("accuracy", [0.45, 0.5, 0.87, 1.0])
def test_a_poor_model_is_not_called_swapped(accuracy: float) -> None:
    assert swapped_order(*predictions(accuracy), MODEL.names) is None


def test_a_constant_predictor_is_not_called_swapped() -> None:
    gold = np.array([0] * 100 + [1] * 300)
    assert swapped_order(np.zeros(400, int), gold, MODEL.names) is None


def test_a_few_rows_are_too_few_to_tell() -> None:
    assert swapped_order(np.array([0, 1]), np.array([1, 0]), MODEL.names) is None


@given(st.permutations(range(3)), st.integers(0, 100))
def test_any_order_of_three_classes_is_found(order: list[int], seed: int) -> None:
    gold = np.random.default_rng(seed).integers(0, 3, 300)
    names = ("a", "b", "c")
    found = swapped_order(np.array(order)[gold], gold, names)
    if sum(at == to for at, to in enumerate(order)) > 0:
        assert found is None or found.accuracy == 1.0  # one class right: no worse than chance
    else:
        assert found is not None and found.accuracy == 1.0
        for name, to in zip(found.names, np.argsort(order), strict=True):
            assert name == names[to]
