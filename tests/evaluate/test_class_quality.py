"""Macro F1 and MCC, against scikit-learn and against a bootstrap of rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from qdeploy.data.tasks import find_task
from qdeploy.evaluate.class_quality import class_quality, metric_doubt, metric_of_task
from qdeploy.schemas.quality import main_figure
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


@pytest.mark.parametrize("positive", [0, 1])
def test_f1_of_a_class_is_scikit_learns(positive: int) -> None:
    gold, own, base = answers(3, 300, 2)
    found = class_quality(gold, own, base, metric="F1", positive=positive)
    figure, expected = main_figure(found), metrics.f1_score(gold, own, pos_label=positive)
    assert figure["name"] == "F1" and figure["value"] == pytest.approx(expected)
    assert figure["baseline"] == pytest.approx(metrics.f1_score(gold, base, pos_label=positive))
    none = class_quality(np.zeros(4, int), np.zeros(4, int), None, metric="F1", positive=1)
    assert main_figure(none)["value"] == 0  # as scikit-learn's, which warns


@pytest.mark.parametrize(
    ("task", "names", "metric"),
    [
        ("mrpc", ("not_equivalent", "equivalent"), ("F1", 1)),
        ("mrpc", ("Equivalent", "Not Equivalent"), ("F1", 0)),
        ("qqp", ("duplicate", "not_duplicate"), ("F1", 0)),
        ("mrpc", ("no", "yes"), ("accuracy", None)),
        ("cola", ("bad", "good"), ("MCC", None)),
        ("qnli", ("entailment", "not_entailment"), ("accuracy", None)),
        ("text", ("a", "b", "c"), ("accuracy", None)),
    ],
)
def test_what_a_task_is_judged_by(
    task: str, names: tuple[str, ...], metric: tuple[str, int | None]
) -> None:
    assert metric_of_task(find_task(task), names) == metric
    assert (metric_doubt(find_task(task), names) is not None) == (names == ("no", "yes"))


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
