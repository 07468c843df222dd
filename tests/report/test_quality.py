"""The page of a head that is judged by another metric than accuracy."""

from __future__ import annotations

from typing import Any

import pytest

from qdeploy.report import evaluation as evaluation_report
from qdeploy.report.figures import figures_of
from qdeploy.report.page import render
from tests.report.reports import evaluation


def figure(name: str, value: float, drop: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "ci95": [value - 0.02, value + 0.02],
        "baseline": value + drop,
        "drop": drop,
        "drop_ci95": [drop - 0.01, drop + 0.01],
    }


def regression() -> Any:
    """What `eval` gives of a regression with a baseline."""
    report = evaluation()
    report["metrics"] = report["labels"] = None
    for key in ("accuracy", "ci95", "drop", "mcnemar_p", "flipped", "agreement"):
        report["baseline"].pop(key)
    figures = [figure("spearman", 0.86, 0.002), figure("pearson", 0.87, 0.003),
               figure("mse", 0.31, 0.0125)]  # fmt: skip
    report["quality"] = {"metric": "spearman", "n": 1500, "queries": None, "figures": figures,
                         "kendall": 0.98}  # fmt: skip
    return report


def test_drops_are_drawn_with_their_intervals() -> None:
    page = render(evaluation_report.page(regression()))
    assert "Drop against the baseline, points, with 95 % intervals" in page
    assert "Accuracy, %" not in page and "McNemar" not in page


@pytest.mark.parametrize("metric", ["accuracy", None])
def test_where_accuracy_decides_it_is_drawn(metric: str | None) -> None:
    report = evaluation()
    if metric is not None:
        report["quality"] = regression()["quality"] | {"metric": metric}
    page = render(evaluation_report.page(report))
    assert "Accuracy, %, with 95 % intervals" in page
    assert "Drop against the baseline, points, with" not in page


def test_a_squared_error_rises_and_has_no_points() -> None:
    found = {one.name: one for one in figures_of(regression())}
    assert found["spearman drop against fp32"].value == "+0.20 points"
    assert found["mse rise against fp32"].value == "+0.0125"
    assert found["mse rise against fp32"].detail == "95 %: +0.0025 to +0.0225"
    assert "mse drop against fp32" not in found
