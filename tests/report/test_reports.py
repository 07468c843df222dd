"""Headlines, cards and tables say what the report says, and warn where it should be doubted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import qdeploy
from qdeploy.errors import QDeployWarning
from qdeploy.report import analysis as analysis_report
from qdeploy.report import evaluation as evaluation_report
from qdeploy.report.card import model_card
from qdeploy.report.page import render
from qdeploy.report.pictures import scatter
from qdeploy.report.sweep import short_names
from tests.calibrate.encoder import model_directory
from tests.report.reports import analysis, evaluation, manifest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def test_the_headline_of_an_evaluation() -> None:
    assert evaluation_report.headline(evaluation()) == (
        "86.75 % of 5463 rows right, 0.24 points lost against fp32; 2.41 × its speed; "
        "1 of 2 planned GEMMs ran in INT8."
    )


@pytest.mark.parametrize("missing", ["metrics", "latency_ms", "speedup", "baseline", "memory_mb"])
def test_a_report_without_a_section_has_a_page_too(missing: str) -> None:
    report = evaluation() | {missing: None}
    if missing in ("metrics", "baseline"):
        report["baseline"] = None
    assert evaluation_report.headline(report) in render(evaluation_report.page(report))


def test_what_fell_back_is_red() -> None:
    text = render(evaluation_report.page(evaluation()))
    assert '<tr class="bad"><td class="text name">b</td>' in text
    assert "per-axis activation scale" in text and '<div class="card bad"><b>1/2 GEMMs</b>' in text


def test_the_page_holds_both_ratios_and_what_neighbours_do() -> None:
    text = " ".join(render(evaluation_report.page(evaluation())).split())
    assert "<b>3.13 ×</b>" in text and "<b>2.41 ×</b>" in text
    assert "Traffic" in text and "offline, 32 rows sorted" in text and "38.2 %" in text
    assert text.index("<b>2.41 ×</b>") < text.index("<b>3.13 ×</b>")  # what servers do comes first
    assert "2.41 × its speed" in text
    assert "24 runs before and 166 timed in 14.9 s (ended by --seconds)" in text
    assert "12.00" in text and "29.00" in text and "tokens of a row: median 46," in text
    assert "up to 0.48 in a logit, 1 of 128 answers change" in text
    assert "An answer does not depend on the rows beside it" in text
    fixed = evaluation() | {"traffic": None, "neighbours": None}
    assert "raffic" not in render(evaluation_report.page(fixed))


def test_warnings_stand_in_front() -> None:
    report = evaluation() | {"warnings": ["CONSTANT PREDICTOR: the engine answers 'x'."]}
    text = render(evaluation_report.page(report))
    assert text.index("CONSTANT PREDICTOR") < text.index("<main>")


def test_the_page_of_an_analysis() -> None:
    text = render(analysis_report.page(analysis()))
    assert "One scale per tensor leaves 1.0 dB of the logits; 1 of 3 sites ask for" in text
    assert "K = 2 suffices" in text and text.count("<svg") == 2 * 3  # for two widths
    assert "90.0 % (5.0 %)" in text  # [SEP]: energy, and share of the tokens
    quiet = analysis() | {"recommendations": [], "recurring": []}
    # 32 answers: one of them is 3.1 points
    assert analysis_report.headline(quiet) == (
        "On 32 rows no site asks for treatment: one scale per tensor will do. "
        "A drop below 3.1 points (1 of 32 answers) does not show on so few."
    )
    values = quiet | {"answers": None}
    assert analysis_report.headline(values).endswith("one scale per tensor will do.")
    unmeasured = quiet | {"cost_rows": 0, "answers": None}
    assert "no cost was measured" in analysis_report.headline(unmeasured)
    assert render(analysis_report.page(quiet))


def front(card: str) -> Any:
    return yaml.safe_load(card.split("---")[1])


def test_a_card_can_be_published() -> None:
    card = model_card(evaluation(), manifest())
    found = front(card)
    assert found["pipeline_tag"] == "text-classification" and "int8" in found["tags"]
    result = found["model-index"][0]["results"][0]
    assert result["metrics"] == [
        {"type": "accuracy", "name": "accuracy on 5463 rows", "value": 0.8675}
    ]
    assert "license" not in found  # it is not ours to say
    assert "128 calibration rows of train.tsv" in card and "1/2 planned GEMMs" in card
    assert "| speed against fp32 | 2.41 × (95 %: 2.30 to 2.52; traffic, 8 rows) |" in card
    assert "| in a batch | An answer depends on the rows beside it: up to 0.48" in card


def test_a_card_names_a_model_of_a_hub_by_its_id() -> None:
    made = manifest() | {"source": {"id": "org/reranker", "sha256": "0" * 64}}
    card = model_card(evaluation(), made)
    assert "# org/reranker, INT8 for `ort-cpu`" in card
    assert front(card)["model-index"][0]["name"] == "org/reranker"


def test_a_card_is_titled_by_the_model_and_not_by_the_folder_it_was_exported_to() -> None:
    card = model_card(evaluation(), manifest() | {"checkpoint": "bert-base-qnli"})
    assert card.split("---")[2].lstrip().startswith("# bert\\-base\\-qnli, INT8 for `ort-cpu`\n")
    assert front(card)["model-index"][0]["name"] == "bert-base-qnli"


def test_the_card_of_a_float_engine_does_not_speak_of_int8() -> None:
    report = evaluation() | {"strategy": "fp32", "int8": None}
    card = model_card(report, manifest() | {"calibration": None})
    assert not {"int8", "quantization"} & set(front(card)["tags"])
    assert "# model, ONNX for `ort-cpu`" in card and "8-bit" not in card


def test_a_card_tells_a_loss_and_no_path_of_this_machine() -> None:
    report = evaluation()
    report["baseline"] = report["baseline"] | {"drop": 0.31, "mcnemar_p": 1e-9}
    report["data"] = report["data"] | {"source": "/home/me/secret/qnli/dev.tsv"}
    made = manifest() | {"calibration": {"rows": 8, "data": "/home/me/secret/qnli/train.tsv"}}
    card = model_card(report, made)
    assert "- **It loses 31.00 points of accuracy** against fp32 (McNemar p = 1e-09)." in card
    assert "secret" not in card and "qnli/train.tsv" in card


def test_the_code_of_a_card_runs(tmp_path: Path) -> None:
    """In the directory of an engine, as the card says."""
    model = model_directory(tmp_path / "model")
    qdeploy.build(model, tmp_path / "engine", strategy="dynamic")
    with pytest.warns(QDeployWarning):
        qdeploy.evaluate(tmp_path / "engine", limit=4, latency=False, card=tmp_path / "card.md")
    code = (tmp_path / "card.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    code += "\nprint(outputs['logits'].shape)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "engine", capture_output=True, text=True
    )
    assert done.stdout.strip() == "(1, 2)", done.stderr


@pytest.mark.parametrize(
    ("task", "call", "rows"),
    [
        ("token-classification", "entities", '["a text"]'),
        ("sentence-embedding", "encode", '["a text"]'),
        ("question-answering", "answer", '[("first text", "second text")]'),
    ],
)
def test_the_code_of_a_card_is_for_its_head(task: str, call: str, rows: str) -> None:
    made = manifest() | {"task": task}
    assert f"encode_batch({rows})" in model_card(evaluation(), made)
    elsewhere = model_card(evaluation() | {"target": "tensorrt"}, made)
    assert f'qdeploy.load(".").{call}({rows})' in elsewhere


def test_a_card_claims_nothing_that_was_not_measured() -> None:
    report = evaluation() | {"metrics": None, "baseline": None, "speedup": None, "latency_ms": None}
    card = model_card(report, manifest() | {"calibration": None})
    assert "model-index" not in front(card)
    assert "accuracy" not in card and "| size on disk |" in card and "without calibration" in card


def test_names_in_the_chart_are_short_while_they_differ() -> None:
    labels = ["fp32", "w8a8 all", "peg groups=2 sorted all", "peg groups=2 all", "mixed all"]
    assert short_names(labels) == ["fp32", "w8a8", "peg 2 sorted", "peg 2", "mixed"]
    alike = ["peg all", "peg", "w8a8 all", "mixed all"]
    assert short_names(alike) == alike  # "peg" would stand twice


def test_no_name_in_the_chart_covers_another() -> None:
    from matplotlib.figure import Figure

    points = [(f"name {i}", 1 + 0.001 * i, 80 + 0.01 * (i % 3), 10.0, i == 0) for i in range(12)]
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    scatter(points, "x", "y", "title")(figure)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(points)
    covering = [
        (a, b) for a in range(12) for b in range(a) if boxes[a].overlaps(boxes[b].padded(-1.5))
    ]
    assert covering == []


def test_the_code_of_a_card_cuts_on_the_tokenizers_side(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"truncation_side": "left"}')
    report = evaluation()
    assert "direction" not in model_card(report, manifest())
    report["engine"] = str(tmp_path)
    assert 'enable_truncation(512, direction="left")' in model_card(report, manifest())
