"""Classes in a wrong order: found for any number of them, and never in a model that is only bad."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeploy.evaluate.assignment import best_assignment
from qdeploy.evaluate.class_swaps import swapped_order

Array = npt.NDArray[Any]


def names(classes: int) -> list[str]:
    return [f"c{at}" for at in range(classes)]


def answers(gold: Array, classes: int, sure: float, seed: int = 0) -> Array:
    """Logits of a model that knows the classes: noise, and `sure` more for the right one."""
    logits = np.random.default_rng(seed).normal(size=(len(gold), classes))
    logits[np.arange(len(gold)), gold] += sure
    return logits


# The assignment


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_the_assignment_equals_brute_force(size: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.integers(-2, 3, (size, size)) if ties else rng.normal(size=(size, size))
    found = best_assignment(gains)
    assert sorted(found) == list(range(size))
    best = max(sum(gains[range(size), order]) for order in itertools.permutations(range(size)))
    assert gains[np.arange(size), found].sum() == pytest.approx(best, abs=1e-9)


def test_a_planted_assignment_of_many() -> None:
    order = np.random.default_rng(0).permutation(300)
    gains = np.random.default_rng(1).normal(size=(300, 300))
    gains[np.arange(300), order] += 50
    assert best_assignment(gains).tolist() == order.tolist()


# What is found


@pytest.mark.parametrize(
    ("classes", "rows"), [(2, 24), (3, 36), (4, 60), (7, 140), (10, 200), (77, 1540)]
)
def test_two_classes_that_changed_places(classes: int, rows: int) -> None:
    gold = np.arange(rows) % classes
    order = np.arange(classes)
    order[[0, -1]] = order[[-1, 0]]
    found = swapped_order(answers(gold, classes, 5)[:, order], gold, names(classes))
    assert found is not None
    assert found.names == tuple(f"c{at}" for at in order)
    last = f"c{classes - 1}"
    assert set(found.answered) == {("c0", last), (last, "c0")}
    assert found.accuracy > 0.85


@given(st.permutations(range(3)), st.integers(0, 100))
@settings(max_examples=40)
def test_any_order_of_three_classes(order: list[int], seed: int) -> None:
    gold = np.random.default_rng(seed).integers(0, 3, 120)
    logits = np.eye(3)[gold][:, order] * 4
    found = swapped_order(logits, gold, names(3))
    if order == sorted(order):
        assert found is None
    else:
        assert found is not None and found.accuracy == 1.0
        assert found.names == tuple(f"c{at}" for at in order)


def test_a_swap_that_leaves_accuracy_above_chance() -> None:
    gold = np.repeat(np.arange(3), [300, 60, 60])
    logits = answers(gold, 3, 4)[:, [0, 2, 1]]
    assert (logits.argmax(axis=1) == gold).mean() > 0.6  # four of five rows are of class 0
    found = swapped_order(logits, gold, names(3))
    assert found is not None and found.names == ("c0", "c2", "c1") and found.accuracy > 0.9


def test_a_preference_for_one_class_hides_no_swap() -> None:
    """Every row is answered c0; below the preference the logits of the other two are exchanged."""
    gold = np.arange(150) % 3
    logits = answers(gold, 3, 4)[:, [0, 2, 1]] + [30.0, 0.0, 0.0]
    found = swapped_order(logits, gold, names(3))
    assert found is not None and found.names == ("c0", "c2", "c1")


def test_confidence_does_not_matter() -> None:
    gold = np.arange(90) % 3
    logits = answers(gold, 3, 3)[:, [1, 0, 2]]
    for scale in (1e-3, 1.0, 1e3):
        found = swapped_order((scale * logits).astype(np.float32), gold, names(3))
        assert found is not None and found.names == ("c1", "c0", "c2")


def test_only_the_cycle_that_is_wrong_is_named() -> None:
    """c0 and c1 changed places, and the model knows nothing of c2 to c5."""
    gold = np.arange(360) % 6
    logits = np.random.default_rng(3).normal(size=(360, 6))
    for at, to in ((0, 1), (1, 0)):
        logits[gold == at, to] += 5
    found = swapped_order(logits, gold, names(6))
    assert found is not None
    assert found.names == ("c1", "c0", "c2", "c3", "c4", "c5")


def test_a_class_without_rows_stays_where_it_is() -> None:
    gold = np.arange(80) % 2
    found = swapped_order(answers(gold, 4, 5)[:, [1, 0, 2, 3]], gold, names(4))
    assert found is not None and found.names == ("c1", "c0", "c2", "c3")


# What is not said


@pytest.mark.parametrize("sure", [0.0, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_a_model_that_is_only_bad_has_its_order(classes: int, sure: float) -> None:
    gold = np.arange(40 * classes) % classes
    assert swapped_order(answers(gold, classes, sure), gold, names(classes)) is None


KINDS = ("noise", "constant", "nearly constant", "heavy tails", "one class known", "preferring")


@given(st.sampled_from(KINDS), st.integers(2, 9), st.integers(1, 80), st.integers(0, 2**32 - 1))
@settings(max_examples=200, derandomize=True)
def test_no_alarm_where_logits_say_nothing(kind: str, classes: int, n: int, seed: int) -> None:
    """Random labels of unequal classes: whatever the logits look like, no order is better.

    Derandomized: at p ≤ 0.0001 one draw of many thousands is believed by right.
    """
    rng = np.random.default_rng(seed)
    gold = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
    logits = rng.normal(size=(n, classes))
    if kind == "constant":
        logits[:] = logits[0]
    elif kind == "nearly constant":
        logits = logits[0] + 1e-6 * logits
    elif kind == "heavy tails":
        logits = rng.standard_cauchy(size=(n, classes))
    elif kind == "one class known":
        logits[gold == 0, 0] += 5
    elif kind == "preferring":
        logits = logits * 0.3 + 8 * rng.normal(size=classes)
    assert swapped_order(logits.astype(np.float32), gold, names(classes)) is None


def test_a_constant_answer_to_unequal_classes_is_no_swap() -> None:
    """The other order would have 90 % of the rows: that is the labels' doing, not the model's."""
    gold = np.repeat([0, 1], [30, 270])
    logits = np.tile(np.array([4.0, -4.0], np.float32), (300, 1))
    assert swapped_order(logits, gold, names(2)) is None


def test_rows_of_one_class_cannot_tell() -> None:
    gold = np.zeros(50, int)
    assert swapped_order(answers(gold + 1, 3, 5), gold, names(3)) is None


def test_a_few_rows_are_too_few_to_tell() -> None:
    for rows in (1, 2, 4, 8):
        gold = np.arange(rows) % 2
        assert swapped_order(answers(1 - gold, 2, 9), gold, names(2)) is None


def test_a_slight_lean_over_many_rows_is_no_swap() -> None:
    """45 % of 10,000 rows right is beyond chance, and still a bad model, not a swapped one."""
    rng = np.random.default_rng(0)
    gold = np.arange(10_000) % 2
    shown = np.where(rng.random(10_000) < 0.45, gold, 1 - gold)
    assert swapped_order(answers(shown, 2, 9), gold, names(2)) is None
