"""What is said of logits: their noise, answers that change, and answers expected to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdeploy.analyze.outcome import Reference
from qdeploy.head import MULTI_LABEL, REGRESSION, SEQUENCES, SPANS, TOKENS, Head

CLASSES = Head(SEQUENCES, ("a", "b"))


def logits(seed: int, rows: int = 40, classes: int = 2) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, classes)).astype(np.float32)


def reference(*batches: Any, head: Head = CLASSES, masks: Any = None) -> Reference:
    return Reference(batches, masks or [np.ones((len(b), 3), np.int64) for b in batches], head)


def test_equal_logits() -> None:
    same = reference(logits(0), logits(1, 3))
    found = same.compare([logits(0), logits(1, 3)])
    assert same.answers == 43
    assert (found.sqnr_db, found.flipped, found.flip_percent) == (200.0, 0, 0.0)


def test_noise_in_decibels_over_all_batches() -> None:
    a, b = logits(0), logits(1, 3)
    every = np.concatenate([a, b])
    a, b = a - every.mean(), b - every.mean()
    for offset in (0, 250):  # a constant is no signal
        found = reference(a + offset, b + offset).compare([a * 1.1 + offset, b * 1.1 + offset])
        assert found.sqnr_db == pytest.approx(20.0, abs=0.01) and found.flipped == 0


def test_expected_flips_tell_what_a_count_cannot() -> None:
    """One row in a hundred has a small margin, and its noise is the only that flips nothing."""
    exact = np.tile(np.array([[2.0, 0.0]], np.float32), (100, 1))
    exact[0] = [0.1, 0.0]
    noise = np.zeros_like(exact)
    noise[1:, 1] = 0.5  # would flip row 0 alone
    found = reference(exact).compare([exact + noise])
    assert found.flipped == 0
    assert found.flip_percent == pytest.approx(100 * 0.99 / 100, abs=0.05)


def test_every_row_counts_once_with_its_own_noise() -> None:
    exact = np.tile(np.array([[1.0, 0.0]], np.float32), (20, 1))
    other = exact[:, ::-1].copy()
    found = reference(exact).compare([other])
    assert (found.flipped, found.flip_percent) == (20, 100.0)


def test_tokens_without_their_padding() -> None:
    exact, mask = logits(0, 12, 3).reshape(2, 6, 3), np.ones((2, 6), np.int64)
    mask[1, 4:] = 0
    other = exact.copy()
    other[1, 4:] = -exact[1, 4:]
    tokens = reference(exact, head=Head(TOKENS, ("a", "b", "c")), masks=[mask])
    found = tokens.compare([other * mask[..., None]])
    assert tokens.answers == 10 and found.flipped == 0


def test_several_labels_change_by_their_sign() -> None:
    exact = np.array([[1.0, -1.0], [-2.0, -3.0]], np.float32)
    head = Head(SEQUENCES, ("a", "b"), problem_type=MULTI_LABEL)
    found = reference(exact, head=head).compare([exact * [[1, -1], [1, 1]]])
    assert found.flipped == 1


@pytest.mark.parametrize(
    "head", [Head(SEQUENCES, ("a",), problem_type=REGRESSION), Head(SPANS, ("a", "b"))]
)
def test_values_have_no_answers(head: Head) -> None:
    exact = logits(0, classes=3)
    noise = 0.1 * logits(1, classes=3)
    known = reference(exact, head=head)
    found = known.compare([exact + noise])
    assert known.answers is None and found.flipped is None and found.flip_percent is None
    assert found.sqnr_db < 40
