"""The order of classes: the model's, GLUE's where it has none; and every spelling of a label."""

from __future__ import annotations

import pytest

from qdeploy.data import Rows, find_task
from qdeploy.errors import DataError, ModelError
from qdeploy.evaluate.labels import (
    ClassOrder,
    absent_text,
    class_order,
    gold_of,
    same_classes,
)

QNLI = find_task("qnli")
MODEL = ClassOrder(("entailment", "not_entailment"), "model")
THREE = ClassOrder(("bad", "fair", "good"), "model")


def rows(*labels: str) -> Rows:
    texts = tuple("t" for _ in labels)
    return Rows(texts, None, labels, "x.tsv", tuple(range(len(labels))))


def indices(labelled: Rows, order: ClassOrder) -> list[int]:
    found: list[int] = gold_of(labelled, order).indices.tolist()
    return found


def test_the_model_decides_the_order() -> None:
    order = class_order(["not_entailment", "entailment"], QNLI)
    assert order == ClassOrder(("not_entailment", "entailment"), "model")
    assert indices(rows("entailment", "not_entailment"), order) == [1, 0]


def test_generic_names_take_the_order_of_glue() -> None:
    assert class_order(["LABEL_0", "LABEL_1"], QNLI) == ClassOrder(QNLI.classes, "glue")
    three = class_order(["LABEL_0", "LABEL_1", "LABEL_2"], QNLI)
    assert three == ClassOrder(("LABEL_0", "LABEL_1", "LABEL_2"), "model")


def test_spelling_of_classes_does_not_matter() -> None:
    labels = rows("Entailment", "NOT-ENTAILMENT", "not entailment")
    assert indices(labels, MODEL) == [0, 1, 1]
    order = ClassOrder(("NEGATIVE", "POSITIVE"), "model")
    assert indices(rows("positive", "negative"), order) == [1, 0]


def test_index_labels_are_the_models_indices() -> None:
    order = ClassOrder(("contradiction", "neutral", "entailment"), "model")
    assert indices(rows("2", "0", "1"), order) == [2, 0, 1]
    named = ClassOrder(("1", "5"), "model")  # star ratings: the names are digits themselves
    assert indices(rows("5", "1"), named) == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("entailment", "maybe"),
            r"row 2 has the class 'maybe', and the model knows entailment, n",
        ),
        (("0", "1", "2"), r"row 3 has the class '2'"),
        (("0", "9" * 5000), r"row 2 has the class '9{60}…', and the model knows"),
        (("0", "LABEL_" + "9" * 5000), r"row 2 has the class 'LABEL_9{54}…'"),
    ],
)
def test_classes_that_do_not_fit(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        indices(rows(*labels), MODEL)


def test_no_labels_and_no_classes() -> None:
    unlabelled = Rows(("t",), None, None, "x.tsv", (0,))
    with pytest.raises(DataError, match=r"x\.tsv has no labels.*--columns label=COLUMN"):
        indices(unlabelled, MODEL)
    with pytest.raises(ModelError, match="has 1 class: a regression has no accuracy"):
        class_order(["LABEL_0"], QNLI)


def test_a_baseline_may_have_the_classes_in_another_order() -> None:
    other = ClassOrder(("NOT-entailment", "entailment"), "model")
    assert same_classes(MODEL, other) == [1, 0]
    with pytest.raises(ModelError, match="baseline has the classes a, b"):
        same_classes(MODEL, ClassOrder(("a", "b"), "model"))


SPELLINGS = [
    (("0", "1", "2"), [0, 1, 2]),
    (("0.0", "1.0", "2.0"), [0, 1, 2]),  # a column of floats, as pandas writes it
    (("LABEL_0", "label_1", "Label_2"), [0, 1, 2]),
    (("2", "LABEL_1", "0.0"), [2, 1, 0]),
    (("NEUTRAL", "contradiction"), [1, 0]),  # one class is absent
    (("1", "2"), [1, 2]),  # an index is one whatever else occurs
    (("0", "0"), [0, 0]),
]


@pytest.mark.parametrize(("labels", "expected"), SPELLINGS)
def test_every_spelling_of_three_classes(labels: tuple[str, ...], expected: list[int]) -> None:
    order = ClassOrder(("contradiction", "neutral", "entailment"), "model")
    assert indices(rows(*labels), order) == expected


def test_truth_values_are_indices_of_two_classes_only() -> None:
    assert indices(rows("true", "False", "TRUE"), MODEL) == [1, 0, 1]
    named = ClassOrder(("True", "False"), "model")
    assert indices(rows("true", "false"), named) == [0, 1]
    three = ClassOrder(("a", "b", "c"), "model")
    with pytest.raises(DataError, match="row 1 has the class 'true', and the model knows a, b, c"):
        indices(rows("true", "false"), three)


def test_the_form_of_the_labels_is_known() -> None:
    assert gold_of(rows("entailment", "Not Entailment"), MODEL).form == "names"
    assert gold_of(rows("1", "0"), MODEL).form == "integers"
    stars = ClassOrder(("1", "2", "3"), "model")
    assert gold_of(rows("3", "1"), stars).form == "names"
    assert gold_of(rows("0", "2", "1"), stars).form == "integers"  # 0 is no name


def test_integers_that_start_at_one_are_said() -> None:
    order = ClassOrder(("bad", "fair", "good"), "model")
    with pytest.raises(DataError, match=r"these seem to start at 1: write 0 to 2, or the names"):
        indices(rows("1", "3", "2"), order)
    with pytest.raises(DataError, match=r"row 2 has the class '2'.* start at 1: write 0 to 1"):
        indices(rows("not_entailment", "2"), MODEL)  # 1 was read as GLUE's name of it
    with pytest.raises(DataError, match=r"row 1 has the class '3'.*Rename the classes"):
        indices(rows("3", "0"), order)
    with pytest.raises(DataError, match=r"row 2 has the class '7'.*Rename the classes in the file"):
        indices(rows("1", "7"), order)
    with pytest.raises(DataError, match="row 1 has the class '-2'"):
        indices(rows("-2", "1"), order)


MEANINGS = [
    (("0", "1", "2"), "labels: 0 = bad, 1 = fair, 2 = good"),
    (("2.0", "1"), "labels: 1 = fair, 2.0 = good"),
    (("LABEL_1", "0"), "labels: 0 = bad, LABEL_1 = fair"),
    (("LABEL_2", "LABEL_1"), "labels: LABEL_1 = fair, LABEL_2 = good"),
    (("bad", "Good", "fair"), None),
]


@pytest.mark.parametrize(("labels", "meaning"), MEANINGS)
def test_labels_that_are_no_names_are_said_with_their_class(
    labels: tuple[str, ...], meaning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "qdeploy"):
        gold_of(rows(*labels), THREE)
    assert caplog.messages == ([] if meaning is None else [f"x.tsv, {meaning}"])


def test_what_is_said_of_many_classes_is_short(caplog: pytest.LogCaptureFixture) -> None:
    names = tuple(f"intent {i}" for i in range(77))
    with caplog.at_level("INFO", "qdeploy"):
        gold_of(rows(*map(str, range(77))), ClassOrder(names, "model"))
        (text,) = caplog.messages
        assert text.endswith("7 = intent 7 and 69 more")
        caplog.clear()
        generic = ClassOrder(("LABEL_0", "LABEL_1", "LABEL_2"), "model")
        gold_of(rows("0", "1", "2"), generic)  # nothing is known of these classes
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("labels", "absent"),
    [
        (("1", "2") * 10, "bad"),
        (("1", "2"), "bad"),  # however few: they may count from 1
        (("0", "1") * 10, "good"),
        (("0", "1"), None),  # of few rows some class is missing soon
        (("0", "1", "2") * 10, None),
        (("fair", "good") * 10, None),  # names leave no doubt
    ],
)
def test_numbers_that_leave_a_class_without_rows_are_doubted(
    labels: tuple[str, ...], absent: str | None
) -> None:
    gold = gold_of(rows(*labels), THREE)
    text = absent_text(gold.indices, gold.form, THREE)
    assert (text is None) == (absent is None)
    if text is not None:
        assert "stand for 2 of the model's 3 classes" in text and f"no row is of {absent}." in text


def test_five_stars_do_not_start_at_one() -> None:
    """Of 1 to 5 and three classes no shift makes classes, whichever comes first."""
    for labels in (("3", "1", "2", "4", "5"), ("5", "4", "3", "2", "1")):
        with pytest.raises(DataError, match="Rename the classes in the file"):
            gold_of(rows(*labels), THREE)


def test_classes_of_one_name_cannot_be_told_apart() -> None:
    order = ClassOrder(("other", "good", "other"), "model")
    assert indices(rows("good", "GOOD"), order) == [1, 1]
    with pytest.raises(DataError, match="Several of its classes have one name"):
        indices(rows("good", "other"), order)
    near = ClassOrder(("a b", "a-b"), "model")  # one name but for the spelling
    assert indices(rows("a-b", "a b"), near) == [1, 0]
    with pytest.raises(DataError, match="row 1 has the class 'A B'"):
        indices(rows("A B"), near)
