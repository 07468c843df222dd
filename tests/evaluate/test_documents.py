"""What `eval` and `predict` return is of its type, down to the last key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import qdeploy
from qdeploy.api import predict_file
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.schemas.prediction import AnsweredFile
from tests.calibrate.encoder import model_directory
from tests.documents import assert_is, unknown
from tests.evaluate.bag import CLASSES, engine_directory, table, write_rows
from tests.report.reports import deep_evaluation, evaluation

bag = pytest.mark.usefixtures("numpy_engines")
quiet = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
QUICK: dict[str, Any] = {"seq_len": 16, "warmup": 1, "iterations": 20, "threads": 1}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.tsv", count=60, wrong=6)


@bag
@quiet
@pytest.mark.parametrize(
    "options",
    [
        QUICK,
        {"latency": False},
        {"accuracy": False, **QUICK},
        {"baseline": True, **QUICK},
        {"baseline": True, "latency": False},
        {"baseline": True, "accuracy": False, "traffic": False, **QUICK},
    ],
    ids=str,
)
def test_a_report_of_eval(options: dict[str, Any], tmp_path: Path, rows: Path) -> None:
    calibration = {"data": "x", "seed": 0, "rows": 2, "row_hashes": ["0" * 16] * 2}
    calibration |= {"truncated": 0, "max_length": 32, "row_lengths": [4, 5]}
    engine = engine_directory(tmp_path / "e", calibration=calibration, labels=list(CLASSES[::-1]))
    if options.pop("baseline", False):
        options["baseline"] = engine_directory(tmp_path / "b", table(seed=1), calibration=None)
    assert_is(qdeploy.evaluate(engine, data=rows, **options), Evaluation)


@quiet
def test_a_report_of_eval_with_the_certificate_of_a_real_engine(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "model")
    qdeploy.build(model, tmp_path / "engine", calibration_rows=8)
    baseline = qdeploy.build(model, tmp_path / "fp32", strategy="fp32")
    assert baseline["strategy"] == "fp32"
    options: dict[str, Any] = {"baseline": tmp_path / "fp32", "limit": 16, **QUICK}
    found = qdeploy.evaluate(tmp_path / "engine", **options)
    assert found["int8"] is not None and found["int8"]["gemms"]
    assert_is(found, Evaluation)
    qdeploy.build(model, tmp_path / "dry", calibration_rows=8, dry_run=True, target="tensorrt")
    simulated = qdeploy.evaluate(tmp_path / "dry", baseline=tmp_path / "fp32", simulate=True)
    assert simulated["simulated"] and simulated["int8"] is None
    assert_is(simulated, Evaluation)


def test_the_reports_of_the_other_tests_are_of_the_type_too() -> None:
    for report in (evaluation(), deep_evaluation()):
        assert_is(report, Evaluation)


@bag
def test_a_report_of_predict(tmp_path: Path) -> None:
    engine = engine_directory(tmp_path / "e")
    (tmp_path / "rows.txt").write_text("yes w1\nno w2\n")
    out = tmp_path / "answers.jsonl"
    for place in (out, None):
        assert_is(predict_file(engine, tmp_path / "rows.txt", out=place), AnsweredFile)


def test_a_document_of_another_type_would_be_seen() -> None:
    report = evaluation()
    report["baseline"]["new"] = 1
    report["int8"]["gemms"]["a"]["new"] = 2
    assert list(unknown(report, Evaluation)) == ["$.baseline.new", "$.int8.gemms.a.new"]
    with pytest.raises(msgspec.ValidationError, match=r"\$\.metrics\.n"):
        assert_is(evaluation() | {"metrics": evaluation()["metrics"] | {"n": "5463"}}, Evaluation)
