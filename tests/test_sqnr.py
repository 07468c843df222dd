"""The SQNR of logits: one definition, wherever it is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.analyze.outcome import Reference
from qdeploy.calibrate.batches import Sample
from qdeploy.data.lengths import RowLengths
from qdeploy.deploy.logit_noise import difference
from qdeploy.evaluate.accuracy import Compared, Judged, compare, compare_outputs
from qdeploy.evaluate.heldout import estimate_drop
from qdeploy.evaluate.labels import ClassOrder
from qdeploy.head import MULTI_LABEL, REGRESSION, SEQUENCES, Head
from qdeploy.sqnr import logit_sqnr_db

LENGTHS = RowLengths((3,), 0, 512)


def classes(reference: Any, other: Any) -> float:
    return logit_sqnr_db([(reference, other)], exclusive=True)


def test_by_hand() -> None:
    exact, other = np.array([[3.0, 0], [0, 4]]), np.array([[3.0, 0], [0, 3]])
    assert classes(exact, other) == pytest.approx(10 * math.log10(12.75))  # around 1.75
    values = logit_sqnr_db([(exact, other)], exclusive=False)
    assert values == pytest.approx(10 * math.log10(12.5))  # around 1.5 and 2
    assert classes(exact[:1], np.array([[3.3, 0]])) == pytest.approx(20)  # one row: all it is


def test_ends_of_the_scale() -> None:
    exact = np.array([[3.0, 0], [0, 4]])
    assert classes(exact, exact) == math.inf
    assert classes(np.ones((3, 2)), np.zeros((3, 2))) == -math.inf
    for broken in (math.nan, math.inf):
        assert classes(exact, np.array([[3.0, 0], [0, broken]])) == -math.inf


@given(st.integers(-3, 3), st.floats(-300, 300), st.integers(0, 1000), st.booleans())
def test_neither_scale_nor_constant_changes_it(
    power: int, offset: float, seed: int, exclusive: bool
) -> None:
    reference, other = np.random.default_rng(seed).normal(size=(2, 5, 3))
    moved = [(a * 2.0**power + offset) for a in (reference, other)]
    plain = logit_sqnr_db([(reference, other)], exclusive=exclusive)
    assert logit_sqnr_db([(moved[0], moved[1])], exclusive=exclusive) == pytest.approx(plain)


@pytest.mark.parametrize("kind", [None, REGRESSION, MULTI_LABEL])
@pytest.mark.parametrize("offset", [0, 250])
def test_every_command_tells_the_same(kind: str | None, offset: float) -> None:
    """`build`, `eval`, `analyze` and `auto` on the same logits."""
    rng, head = np.random.default_rng(0), Head(SEQUENCES, ("a", "b", "c"), kind)
    exact = (rng.normal([0, 3, -1], 1, (40, 3)) + offset).astype(np.float32)
    other = (exact + rng.normal(0, 0.1, exact.shape)).astype(np.float32)
    mask = np.ones((40, 3), np.int64)
    feeds = {"input_ids": mask, "attention_mask": mask}
    sample = Sample("rows", 40, (feeds,))
    built = difference([{"logits": exact}], [{"logits": other}], sample, head).sqnr_db
    found: list[float | None] = [Reference([exact], [mask], head).compare([other]).sqnr_db]
    if head.chooses:
        order = ClassOrder(head.labels, "model")
        first, second = (Judged(order, logits, None, LENGTHS) for logits in (other, exact))
        found += [compare(first, second)["sqnr_db"], estimate_drop(exact, other, None).sqnr_db]
    else:
        own, base = (Compared({"logits": values}, LENGTHS, head) for values in (other, exact))
        found.append(compare_outputs(own, base)["sqnr_db"])
    assert found == pytest.approx([built] * len(found), abs=0.01) and 15 < built < 35
