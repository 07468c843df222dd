"""The page of a head that is judged by another metric than accuracy."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from qdeploy.cli.evaluation import table as show
from qdeploy.report import evaluation as evaluation_report
from qdeploy.report.card import model_card
from qdeploy.report.figures import figures_of
from qdeploy.report.page import render
from tests.report.reports import evaluation, manifest


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


def test_the_card_of_answers_has_both_figures_and_no_classes() -> None:
    report, own = regression(), manifest()
    report["quality"] |= {
        "metric": "answer f1",
        "figures": [figure("answer f1", 0.87, 0), figure("exact match", 0.86, 0)],
    }
    own["task"], own["labels"] = "question-answering", ["LABEL_0", "LABEL_1"]
    card = model_card(report, own)
    result = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]
    assert result["task"] == {"type": "question-answering"}
    assert [(one["type"], one["value"]) for one in result["metrics"]] == [
        ("f1", 0.87),
        ("exact_match", 0.86),
    ]
    assert "LABEL_0" not in card and "classes" not in card


def test_embeddings_have_no_accuracy_and_no_logits(capsys: pytest.CaptureFixture[str]) -> None:
    report = regression()
    report["quality"], report["no_accuracy"] = None, "rows.txt has no labels"
    report["data"]["n"] = 1
    report["baseline"] |= {"sqnr_db": 30.5, "max_abs_diff": 0.1, "equal_logits": False}
    report["baseline"]["embeddings"] = {
        "cosine_mean": 1.0, "cosine_p5": 1.0, "recall_at_10": 1.0, "texts": 20,
    }  # fmt: skip
    names = {one.name for one in figures_of(report)}
    assert "embedding SQNR" in names and "logit SQNR" not in names
    show(report)
    said = " ".join(capsys.readouterr().out.split())
    assert "quality not measured: rows.txt has no labels" in said and "accuracy" not in said
    assert ", 1 row" in said and "1 rows" not in said
    assert evaluation_report.page(report).title.endswith(": quality, latency and INT8 kernels")
    assert "accuracy" in evaluation_report.page(evaluation()).title
