"""One list of figures: terminal, page and card show all of it, in the same words."""

from __future__ import annotations

import html

import pytest

from qdeploy.cli import evaluation as terminal
from qdeploy.report import evaluation as evaluation_report
from qdeploy.report.card import model_card
from qdeploy.report.figure import Figure
from qdeploy.report.figures import figures_of
from qdeploy.report.page import render
from qdeploy.schemas.evaluation import Evaluation
from tests.report.reports import CUT, TIMES, evaluation, manifest


def whole() -> Evaluation:
    """A report with every section, and with what should make its reader stop."""
    report: Evaluation = evaluation()
    report["device_ms"], report["cuda_graph"] = TIMES | {"p50": 0.512}, True
    report["data"]["calibration"] = CUT
    report["metrics"]["constant_predictor"] = True
    report["labels"] |= {"swapped": True, "accuracy_if_swapped": 0.9}
    report["memory_mb"]["device"] = 120.0
    return report


def named(report: Evaluation) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(report)}


def test_all_three_show_every_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "300")  # no line is wrapped
    report = whole()
    terminal.table(report)
    lines = capsys.readouterr().out.splitlines()
    card = model_card(report, manifest())
    page = html.unescape(render(evaluation_report.page(report)))
    figures = figures_of(report)
    assert len(figures) > 25
    for figure in figures:
        assert any(line.split("  ")[0] == figure.name and figure.text in line for line in lines)
        assert f"| {figure.name} | {figure.text} |" in card
        assert f">{figure.name}</td>" in page and f">{figure.value}</td>" in page
        assert figure.detail in page
        if figure.headline:
            assert f"<b>{figure.headline}</b>" in page


def test_what_should_stop_a_reader_is_bad() -> None:
    bad = {name for name, figure in named(whole()).items() if figure.mood == "bad"}
    assert bad == {"accuracy", "answers", "classes", "INT8", "rows cut"}
    report = evaluation()
    report["baseline"] |= {"drop": 0.1, "mcnemar_p": 0.01}
    report["speedup"] = {"ratio": 0.9, "ci95": [0.8, 0.99]}
    report["traffic"] = None
    found = named(report)
    assert found["drop against fp32"].mood == found["speed against fp32"].mood == "bad"
    assert found["drop against fp32"].text == "+10.00 points (McNemar p = 0.01)"


def test_outputs_without_answers_and_outputs_that_are_equal() -> None:
    report = evaluation()
    base = {key: report["baseline"][key] for key in ("engine", "target", "strategy", "scope")}
    noise = {"sqnr_db": None, "equal_logits": False, "max_abs_diff": 0.25}
    values = evaluation() | {"metrics": None, "baseline": base | noise}
    assert named(values)["largest difference"].headline == "0.25"
    assert "logit SQNR" not in named(values)
    equal = values | {"baseline": base | noise | {"equal_logits": True, "max_abs_diff": 0.0}}
    assert named(equal)["logits"].text == "equal to fp32's"


def test_a_latency_whose_kernels_nobody_looked_at_says_so() -> None:
    assert named(evaluation() | {"int8": None})["INT8"].text == "not looked at"
    assert "INT8" not in named(evaluation() | {"int8": None, "latency_ms": None})
