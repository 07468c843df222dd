"""Outputs of two engines compared: what counts, and what answers with values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.batches import Sample
from qdeploy.deploy.logit_noise import Difference, difference
from qdeploy.head import MULTI_LABEL, REGRESSION, SEQUENCES, SPANS, TOKENS, Head

MASK = np.array([[1, 1, 1], [1, 1, 0]])
SAMPLE = Sample("rows", 2, ({"input_ids": MASK, "attention_mask": MASK},))


def of(head: Head, exact: Any, found: Any) -> Difference:
    first, second = (
        {name: np.array(values, np.float32) for name, values in outputs.items()}
        for outputs in (exact, found)
    )
    return difference([first], [second], SAMPLE, head)


def test_a_classifier() -> None:
    head = Head(SEQUENCES, ("a", "b"))
    found = of(head, {"logits": [[3, 0], [0, 4]]}, {"logits": [[3, 0], [0, 3]]})
    assert found.sqnr_db == pytest.approx(10 * math.log10(12.75))  # around their mean of 1.75
    assert (found.max_abs, found.flipped, found.answers) == (1.0, 0, 2)
    assert of(head, {"logits": [[3, 0], [0, 4]]}, {"logits": [[0, 3], [0, 4]]}).flipped == 1


@pytest.mark.parametrize(
    "head",
    [
        Head(SEQUENCES, ("a", "b")),
        Head(SEQUENCES, ("a", "b"), REGRESSION),
        Head(SEQUENCES, ("a", "b"), MULTI_LABEL),
    ],
)
def test_a_constant_in_the_outputs_hides_no_noise(head: Head) -> None:
    """A price of 250 ± 1, or logits that share an offset: what is told is how rows differ."""
    exact, found = np.array([[3.0, 0], [0, 4], [1, 1]]), np.array([[2.0, 0], [0, 4], [1, 2]])
    plain = of(head, {"logits": exact}, {"logits": found})
    moved = of(head, {"logits": exact + 250}, {"logits": found + 250})
    assert moved.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-3)
    assert plain.sqnr_db < 12


def test_equal_and_not_finite() -> None:
    head = Head(SEQUENCES, ("a", "b"))
    same = {"logits": [[3, 0], [0, 4]]}
    assert of(head, same, same) == Difference(math.inf, 0.0, 0, 2)
    for broken in (math.nan, math.inf):
        assert of(head, same, {"logits": [[3, 0], [0, broken]]}).sqnr_db == -math.inf


def test_a_row_of_a_multi_label_classifier_flips_when_any_label_does() -> None:
    head = Head(SEQUENCES, ("a", "b", "c"), MULTI_LABEL)
    exact = {"logits": [[1, 5, -1], [1, 1, 1]]}
    assert of(head, exact, {"logits": [[1, 0.5, -2], [9, 1, 1]]}).flipped == 0
    assert of(head, exact, {"logits": [[-1, 5, 1], [1, 1, 1]]}).flipped == 1


@pytest.mark.parametrize("head", [Head(SEQUENCES, ("a",)), Head(SEQUENCES, ("a", "b"), REGRESSION)])
def test_values_do_not_flip(head: Head) -> None:
    width = len(head.labels)
    exact, found = (
        {"logits": [[1.0] * width, [2] * width]},
        {"logits": [[2.0] * width, [1] * width]},
    )
    assert of(head, exact, found).flipped is None and of(head, exact, found).answers == 0


def test_padding_does_not_count() -> None:
    exact = {"logits": [[[1, 0], [0, 1], [1, 0]], [[0, 1], [1, 0], [1, 0]]]}
    found = {"logits": [[[1, 0], [1, 0], [1, 0]], [[0, 1], [1, 0], [-99, 99]]]}
    got = of(Head(TOKENS, ("a", "b")), exact, found)
    assert got.sqnr_db == pytest.approx(10 * math.log10(2.5 / 2))  # around ½
    assert (got.max_abs, got.flipped, got.answers) == (1.0, 1, 5)


def test_a_span_flips_when_one_of_its_ends_does() -> None:
    exact = {"start_logits": [[2, 0, 0], [0, 2, 9]], "end_logits": [[0, 0, 2], [0, 2, 9]]}
    found = {"start_logits": [[2, 0, 0], [0, 2, 0]], "end_logits": [[0, 2, 1], [0, 2, 0]]}
    got = of(Head(SPANS, ("LABEL_0", "LABEL_1")), exact, found)
    assert (got.flipped, got.answers) == (1, 2)
