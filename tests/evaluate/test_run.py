"""Whole evaluations of the bag-of-words engine: report, warnings, gates, and what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.data import read_rows, row_hashes
from qdeploy.errors import (
    DataError,
    GateError,
    ModelError,
    PlanError,
    QDeployWarning,
    VerificationError,
)
from qdeploy.evaluate import stages
from qdeploy.evaluate.metrics import mcnemar_p, wilson_interval
from qdeploy.evaluate.run import evaluate_engine
from qdeploy.schemas.evaluation import Evaluation
from tests.evaluate.bag import CLASSES, MAX_LENGTH, WORDS, engine_directory, table, write_rows

pytestmark = pytest.mark.usefixtures("numpy_engines")

QUICK: dict[str, Any] = {"seq_len": 16, "warmup": 1, "iterations": 20, "threads": 1}
SCHEMA_1 = {
    "schema", "engine", "target", "strategy", "scope", "task", "metrics", "baseline", "latency_ms",
    "speedup", "protocol", "memory_mb", "size_mb", "int8",
}  # fmt: skip


def no_votes() -> np.ndarray:
    """An engine that always answers class 1."""
    votes = np.zeros((len(WORDS), 2), np.float32)
    votes[WORDS.index("[CLS]"), 1] = 1
    return votes


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return engine_directory(tmp_path / "engine", calibration=None)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.tsv", count=60, wrong=6)


# The report


def test_report_of_one_engine(engine: Path, rows: Path, numpy_engines: dict[str, Any]) -> None:
    report = evaluate_engine(engine, data=rows, **QUICK)
    assert set(report) >= SCHEMA_1
    assert report["schema"] == 1
    assert (report["target"], report["strategy"], report["scope"]) == ("ort-cpu", "w8a8", "gemm")
    assert report["metrics"] == {
        "accuracy": 0.9,
        "n": 60,
        "ci95": list(wilson_interval(54, 60)),
        "constant_predictor": False,
    }
    assert set(report["latency_ms"] or ()) == {"p50", "p90", "p95", "p99", "mean"}
    seconds = report["protocol"]["seconds"]
    assert seconds is not None and 0 <= seconds < 30
    assert report["protocol"] == {
        "seconds": seconds,
        "batch_size": 8,
        "seq_len": 16,
        "threads": 1,
        "asked_warmup": 1,
        "asked_iterations": 20,
        "asked_seconds": None,
        "warmup": 1,
        "iterations": 20,
        "ended_by_time": False,
    }
    assert report["int8"] == numpy_engines
    assert report["data"]["source"] == str(rows) and report["data"]["n"] == 60
    assert report["data"]["hash"] == read_rows(rows).content_hash()
    assert report["labels"]["order"] == list(CLASSES) and report["labels"]["from"] == "model"
    assert report["baseline"] is None and report["speedup"] is None
    assert report["size_mb"]["weights"] < report["size_mb"]["total"]
    mean = report["latency_ms"]["mean"]
    assert report["throughput"]["rows_per_s"] == pytest.approx(8000 / mean)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_report_against_a_baseline(tmp_path: Path, engine: Path, rows: Path) -> None:
    votes = table()
    votes[WORDS.index("w0")] += (0, 3)  # w0 stands in every row: every yes flips
    worse = engine_directory(tmp_path / "worse", votes, strategy="percentile")
    with pytest.warns(QDeployWarning, match="CONSTANT PREDICTOR"):
        report = evaluate_engine(worse, data=rows, baseline=engine, **QUICK)
    base, gold = report["baseline"], read_rows(rows)
    assert base["strategy"] == "w8a8" and base["engine"] == str(engine)
    assert base["accuracy"] == 0.9
    assert base["drop"] == pytest.approx(0.9 - report["metrics"]["accuracy"])
    assert gold.second is not None and gold.labels is not None
    lost = [
        (" yes " in text, label == "entailment")
        for text, label in zip(gold.second, gold.labels, strict=True)
    ]
    assert base["flipped"] == sum(yes for yes, _ in lost)
    assert base["agreement"] == pytest.approx(1 - base["flipped"] / 60)
    assert base["mcnemar_p"] == mcnemar_p(
        sum(yes and right for yes, right in lost), sum(yes and not right for yes, right in lost)
    )
    assert base["sqnr_db"] < 10
    assert base is not None and set(base) >= {"latency_ms", "memory_mb", "size_mb", "int8"}
    assert report["speedup"]["ratio"] > 0 and len(report["speedup"]["ci95"]) == 2
    assert report["metrics"]["constant_predictor"]
    json.dumps(report, allow_nan=False)


def test_an_engine_against_itself(engine: Path, rows: Path) -> None:
    base = evaluate_engine(engine, data=rows, baseline=engine, **QUICK)["baseline"]
    assert (base["drop"], base["mcnemar_p"], base["flipped"]) == (0, 1, 0)
    assert base["sqnr_db"] is None and base["equal_logits"]


def test_a_baseline_with_its_classes_in_another_order(
    tmp_path: Path, engine: Path, rows: Path
) -> None:
    turned = engine_directory(tmp_path / "turned", table()[:, ::-1], labels=list(CLASSES[::-1]))
    base = evaluate_engine(engine, data=rows, baseline=turned, latency=False)["baseline"]
    assert base["accuracy"] == 0.9 and base["flipped"] == 0 and base["equal_logits"]


def test_same_seed_same_figures(engine: Path, rows: Path) -> None:
    first, second = (evaluate_engine(engine, data=rows, latency=False) for _ in range(2))
    assert first == second


def test_limit_takes_the_first_rows(engine: Path, rows: Path) -> None:
    report = evaluate_engine(engine, data=rows, limit=20, latency=False)
    assert report["metrics"]["n"] == report["data"]["n"] == 20
    assert report["metrics"]["accuracy"] == pytest.approx(14 / 20)


def test_sections_left_out_are_none(engine: Path, rows: Path) -> None:
    report = evaluate_engine(engine, data=rows, latency=False)
    assert report["latency_ms"] is None and report["memory_mb"] is None
    assert report["int8"]["planned"] == 4 and report["size_mb"]
    report = evaluate_engine(engine, data=rows, accuracy=False, baseline=engine, **QUICK)
    assert report["metrics"] is None and report["latency_ms"]
    assert "drop" not in report["baseline"] and report["baseline"]["latency_ms"]


def test_progress_names_stages(engine: Path, rows: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    evaluate_engine(
        engine, data=rows, baseline=engine, progress=lambda *a: calls.append(a), **QUICK
    )
    assert list(dict.fromkeys(stage for stage, _, _ in calls)) == [
        "load",
        "accuracy",
        "accuracy of the baseline",
        "neighbours",
        "neighbours of the baseline",
        "latency, warm-up",
        "latency",
        *(
            f"traffic, {rows}{part}"
            for rows in ("1 row", "8 rows", "32 rows")
            for part in (", warm-up", "")
        ),
        "offline, 32 rows sorted, warm-up",
        "offline, 32 rows sorted",
        "memory",
        "kernels",
    ]
    assert all(0 <= done <= total for _, done, total in calls)
    last = {stage: (done, total) for stage, done, total in calls if stage != "load"}
    assert all(done == total for done, total in last.values())  # each says that it ended


def test_traffic_stands_beside_the_fixed_shape(engine: Path, rows: Path) -> None:
    report = evaluate_engine(engine, data=rows, baseline=engine, **QUICK)
    assert report["traffic"] is not None
    assert [own["batch_size"] for own in report["traffic"]] == [1, 8, 32, 32]
    assert len(report["baseline"]["traffic"]) == 4
    own, base = report["traffic"][1], report["baseline"]["traffic"][1]
    assert (own["batch_size"], own["batches"], own["iterations"]) == (8, 7, 20)
    assert 0 < own["padding"] < 0.8 and report["traffic"][0]["padding"] == 0
    assert 6 <= own["tokens"]["median"] <= own["tokens"]["p95"] < 32
    assert own["rows_per_s"] > 0 and set(base) == {"latency_ms", "rows_per_s"}
    assert own["latency_ms"]["p50"] <= own["latency_ms"]["p95"]
    low, high = own["speedup"]["ci95"]
    assert low <= own["speedup"]["ratio"] <= high
    fixed = evaluate_engine(engine, data=rows, traffic=False, **QUICK)
    assert fixed["traffic"] is None and fixed["latency_ms"]


def test_time_bounds_what_is_not_asked_for(engine: Path, rows: Path) -> None:
    report = evaluate_engine(engine, data=rows, seq_len=16, threads=1, seconds=0)
    protocol, own = report["protocol"], report["traffic"][0]
    assert (protocol["asked_seconds"], protocol["asked_iterations"]) == (0, None)
    for part in (protocol, own):
        assert (part["warmup"], part["iterations"], part["ended_by_time"]) == (1, 6, True)
    assert report["protocol"]["threads"] == 1


def test_neighbours_are_looked_at_for_both_engines(engine: Path, rows: Path) -> None:
    report = evaluate_engine(engine, data=rows, baseline=engine, latency=False)
    for found in (report["neighbours"], report["baseline"]["neighbours"]):
        assert (found["rows"], found["max_abs_diff"], found["flipped"]) == (56, 0, 0)
    assert evaluate_engine(engine, data=rows, accuracy=False, **QUICK)["neighbours"] is None


def test_embedded_rows_are_the_default(engine: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)  # the bag knows none of these words
        report = evaluate_engine(engine, latency=False)
    assert report["data"]["source"] == "qnli-mini"
    assert report["metrics"]["n"] == report["data"]["n"] >= 300
    assert report["data"]["max_length"] == MAX_LENGTH
    assert report["data"]["truncated"] > 0


# Warnings


def test_rows_that_calibrated_the_engine_are_said(tmp_path: Path, rows: Path) -> None:
    hashes = [*row_hashes(read_rows(rows).take(7)), "0" * 16]
    calibration = {"data": "x", "seed": 0, "rows": 8, "row_hashes": hashes}
    calibration |= {"truncated": 0, "max_length": 32}
    engine = engine_directory(tmp_path / "e", calibration=calibration)
    with pytest.warns(QDeployWarning, match="7 of 60 evaluation rows .* also calibrated the engin"):
        report = evaluate_engine(engine, data=rows, latency=False)
    assert report["data"]["also_calibration"] == 7
    assert len(report["warnings"]) == 1


def test_swapped_labels_are_said(tmp_path: Path, rows: Path) -> None:
    engine = engine_directory(tmp_path / "e", labels=list(CLASSES[::-1]))
    with pytest.warns(QDeployWarning, match=r"CLASS ORDER.*is 10\.00 %, and would be 90\.00 %"):
        report = evaluate_engine(engine, data=rows, latency=False)
    assert report["labels"]["swapped"]
    assert report["labels"]["order_if_swapped"] == list(CLASSES)
    assert "'entailment' get 'not_entailment'" in report["warnings"][0]
    assert "Class names are those of id2label: correct" in report["warnings"][0]
    assert report["labels"]["accuracy_if_swapped"] == pytest.approx(0.9)


def test_generic_labels_are_read_in_the_order_of_glue(tmp_path: Path, rows: Path) -> None:
    engine = engine_directory(tmp_path / "e", labels=["LABEL_0", "LABEL_1"])
    report = evaluate_engine(engine, data=rows, latency=False)
    assert report["labels"]["from"] == "glue"
    assert report["metrics"]["accuracy"] == 0.9


def test_constant_predictor_is_said(tmp_path: Path, rows: Path) -> None:
    engine = engine_directory(tmp_path / "e", no_votes())
    with pytest.warns(QDeployWarning, match="CONSTANT PREDICTOR: .* 'not_entailment' for every"):
        report = evaluate_engine(engine, data=rows, latency=False)
    assert report["metrics"]["constant_predictor"]
    assert not report["labels"]["swapped"]


def test_memory_that_cannot_be_measured_is_said(
    engine: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path, **_: Any) -> dict[str, float]:
        raise ModelError("no process")

    monkeypatch.setattr(stages, "peak_memory", fail)
    with pytest.warns(QDeployWarning, match="Peak memory was not measured. no process"):
        report = evaluate_engine(engine, data=rows, **QUICK)
    assert report["memory_mb"] is None and report["latency_ms"]


# Gates


def failed(call: Callable[[], object], message: str) -> Any:
    with pytest.raises(GateError, match=message) as caught:
        call()
    assert caught.value.exit_code == 1
    return caught.value.report


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_max_drop(tmp_path: Path, engine: Path, rows: Path) -> None:
    worse = engine_directory(tmp_path / "worse", no_votes())

    def go(max_drop: float) -> Evaluation:
        return evaluate_engine(worse, data=rows, baseline=engine, max_drop=max_drop, latency=False)

    drop = 100 * go(100)["baseline"]["drop"]
    assert go(drop)["baseline"]["drop"] > 0.2
    report = failed(lambda: go(drop - 0.1), rf"drops by {drop:.2f} points \(from 90\.00 % to")
    assert report["size_mb"] and report["int8"]


def test_require_int8(engine: Path, rows: Path, numpy_engines: dict[str, Any]) -> None:
    def go() -> Evaluation:
        return evaluate_engine(engine, data=rows, require_int8=0.75, latency=False)

    assert go()["int8"]["flops_share"] == 0.75
    numpy_engines["flops_share"] = 0.74
    report = failed(go, r"did 74 % of all constant-weight FLOPs.* asks for 75 %: 90 % of all .*3/4")
    assert report["int8"]["flops_share"] == 0.74
    failed(
        go, r"Fell back: pooler ran as MatMul \(2-D.*Not planned: conv \(10 %: Conv is not planned"
    )
    numpy_engines |= {
        "planned": 0,
        "executed": 0,
        "flops_share": 0.0,
        "fallbacks": [],
        "unplanned": [],
    }
    failed(go, "No GEMM is planned in INT8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": 1.0}, "--max-drop needs a baseline"),
        ({"max_drop": 1.0, "baseline": "x", "accuracy": False}, "--max-drop needs accuracy"),
        ({"max_drop": -1.0, "baseline": "x"}, "--max-drop is -1.0. Give a number from 0 to 100"),
        ({"require_int8": 99}, "--require-int8 is 99. Give a number from 0 to 1"),
        ({"task": "qnil"}, "Did you mean 'qnli'"),
        ({"iterations": 0}, "iterations is 0"),
        ({"iterations": 9, "seconds": 3}, "--seconds bounds runs whose number is left open"),
        ({"seconds": -1}, "--seconds is -1. Give a number from 0 up"),
    ],
)
def test_options_are_refused_before_anything_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        evaluate_engine("nowhere", **options)


# What is refused


def test_engines_that_are_none(tmp_path: Path, engine: Path, rows: Path) -> None:
    with pytest.raises(ModelError, match=r"does not exist\. Make the engine directory"):
        evaluate_engine(tmp_path / "none", data=rows)
    with pytest.raises(ModelError, match="does not exist"):
        evaluate_engine(engine, data=rows, baseline=tmp_path / "none")


def test_accuracy_is_for_sequence_classification(tmp_path: Path, rows: Path) -> None:
    engine = engine_directory(tmp_path / "e", task="token-classification")
    with pytest.raises(PlanError, match=r"is a token classifier: .*\(--no-accuracy\)"):
        evaluate_engine(engine, data=rows)
    report = evaluate_engine(engine, data=rows, accuracy=False, **QUICK)
    assert report["latency_ms"] and report["metrics"] is None


def test_data_that_does_not_fit(tmp_path: Path, engine: Path) -> None:
    path = tmp_path / "one.tsv"
    path.write_text("question\tsentence\tlabel\nyes\tw1\t0\nyes\tw2\t0\n")
    with pytest.warns(
        QDeployWarning, match="All 2 rows are of the class 'entailment': accuracy is"
    ):
        report = evaluate_engine(engine, data=path, latency=False)
    assert report["metrics"]["accuracy"] == 1.0 and not report["metrics"]["constant_predictor"]
    assert evaluate_engine(engine, data=path, accuracy=False, **QUICK)["data"]["n"] == 2
    with pytest.raises(DataError, match="are not for the task sst2"):
        evaluate_engine(engine, task="sst2")


def test_longer_than_the_model_takes(engine: Path, rows: Path) -> None:
    with pytest.raises(
        PlanError, match=f"--seq-len is 64, and the model takes at most {MAX_LENGTH}"
    ):
        evaluate_engine(engine, data=rows, seq_len=64)
    short = evaluate_engine(engine, data=rows, warmup=1, iterations=6, threads=1)
    assert short["protocol"]["seq_len"] == MAX_LENGTH
    with pytest.raises(
        PlanError, match=f"--max-length is 64, and the model takes at most {MAX_LENGTH} t"
    ):
        evaluate_engine(engine, data=rows, max_length=64, latency=False)


def test_a_broken_engine(tmp_path: Path, rows: Path) -> None:
    engine = engine_directory(tmp_path / "e", np.full_like(table(), np.nan))
    with pytest.raises(VerificationError, match="not finite for 60 of 60 rows"):
        evaluate_engine(engine, data=rows, latency=False)
