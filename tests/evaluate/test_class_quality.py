"""Macro F1 and MCC, against scikit-learn and against a bootstrap of rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from qdeploy.evaluate.class_quality import class_quality
from qdeploy.types import Array

metrics = pytest.importorskip("sklearn.metrics")


def answers(seed: int, rows: int, classes: int) -> tuple[Array, Array, Array]:
    """Labels, and answers of two models of which the second is the better."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, classes, rows) ** 2 // max(1, classes - 1)  # some classes are rare
    worse, better = (
        np.where(rng.random(rows) < share, gold, rng.integers(0, classes, rows))
        for share in (0.6, 0.8)
    )
    return gold, worse, better


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("rows", [5, 60, 700])
def test_they_are_scikit_learns(classes: int, rows: int) -> None:
    gold, own, base = answers(classes * rows, rows, classes)
    found = {f["name"]: f for f in class_quality(gold, own, base)["figures"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, of in (
            ("macro F1", lambda a: metrics.f1_score(gold, a, average="macro")),
            ("MCC", lambda a: metrics.matthews_corrcoef(gold, a)),
        ):
            assert found[name]["value"] == pytest.approx(of(own))
            assert found[name]["baseline"] == pytest.approx(of(base))
            assert found[name]["drop"] == pytest.approx(of(base) - of(own))


def test_one_class_alone() -> None:
    gold = np.array([0, 1, 0, 1])
    found = {f["name"]: f["value"] for f in class_quality(gold, np.zeros(4, int), None)["figures"]}
    assert found["MCC"] == 0
    assert found["macro F1"] == pytest.approx(1 / 3)


def test_the_interval_is_that_of_a_bootstrap_of_rows() -> None:
    gold, own, base = answers(1, 400, 3)
    found = class_quality(gold, own, base)["figures"][1]
    rng = np.random.default_rng(5)
    drops = []
    for _ in range(600):
        drawn = rng.integers(0, len(gold), len(gold))
        of = [metrics.matthews_corrcoef(gold[drawn], a[drawn]) for a in (base, own)]
        drops.append(of[0] - of[1])
    low, high = np.percentile(drops, (2.5, 97.5))
    assert found["drop_ci95"] == pytest.approx([low, high], abs=0.03)
