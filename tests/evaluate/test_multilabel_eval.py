"""Multi-label classifiers through export, build, eval and predict, in two sizes."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import DataError, GateError, PlanError
from qdeploy.schemas.quality import main_figure
from tests.evaluate.heads import SIZES, head_checkpoint
from tests.once import Once

metrics = pytest.importorskip("sklearn.metrics")
CLASSES = ("river", "old king", "war", "music")
WORDS = ("river", "city", "king", "war", "year", "music", "light", "church", "school", "north")
pytestmark = pytest.mark.integration


def sentences() -> tuple[list[str], list[list[str]]]:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) for _ in range(60)]
    return texts, [[name for name in CLASSES if name.split()[-1] in text] for text in texts]


TEXTS, SETS = sentences()


@pytest.fixture(scope="module", params=SIZES)
def home(request: pytest.FixtureRequest, once: Once) -> Path:
    """Engines of a multi-label classifier, and its rows in every form; not to be changed."""
    hidden: int = request.param

    def make(home: Path) -> None:
        lines = [json.dumps({"text": t, "labels": s}) for t, s in zip(TEXTS, SETS, strict=True)]
        (home / "rows.jsonl").write_text("\n".join(lines), "utf-8")
        with (home / "columns.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", "comment_text", *CLASSES])
            for at, (text, row) in enumerate(zip(TEXTS, SETS, strict=True)):
                writer.writerow([at, text, *(int(name in row) for name in CLASSES)])
        cells = [f"{text},{'|'.join(row)}" for text, row in zip(TEXTS, SETS, strict=True)]
        (home / "cells.csv").write_text("\n".join(["text,label", *cells]), "utf-8")
        head_checkpoint(home / "checkpoint", CLASSES, hidden=hidden,
                        problem_type="multi_label_classification")  # fmt: skip
        qdeploy.export(home / "checkpoint", home / "model")
        qdeploy.build(home / "model", home / "fp32", strategy="fp32")
        head_checkpoint(home / "other-checkpoint", CLASSES[::-1], hidden=96 - hidden,
                        problem_type="multi_label_classification")  # fmt: skip
        qdeploy.export(home / "other-checkpoint", home / "other-model")
        qdeploy.build(home / "other-model", home / "other", strategy="fp32")
        data = str(home / "columns.csv")
        qdeploy.build(home / "model", home / "w8a8", strategy="w8a8", data=data,
                      calibration_rows=20)  # fmt: skip

    return once(f"multilabel-{hidden}", 1, make)[0]


def evaluated(engine: Path, **options: Any) -> Any:
    return qdeploy.evaluate(engine, latency=False, **options)


def test_the_figures_are_those_of_the_checkpoint_itself(home: Path) -> None:
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(home / "checkpoint")
    tokenizer = transformers.AutoTokenizer.from_pretrained(home / "checkpoint")
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    gold = np.array([[name in row for name in CLASSES] for row in SETS])
    for threshold in (0.5, 0.3):
        said = 1 / (1 + np.exp(-logits)) > threshold
        report = evaluated(home / "fp32", data=home / "rows.jsonl", threshold=threshold)
        found = {f["name"]: f["value"] for f in report["quality"]["figures"]}
        assert found["micro F1"] == pytest.approx(metrics.f1_score(gold, said, average="micro"))
        assert found["mean average precision"] == pytest.approx(
            metrics.average_precision_score(gold, logits), rel=1e-4
        )
        assert found["subset accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))
        assert report["quality"]["threshold"] == threshold
    assert report["metrics"] is None and report["no_accuracy"] is None


def test_every_form_of_the_labels_gives_the_same(home: Path) -> None:
    found = [
        evaluated(home / "fp32", data=home / "rows.jsonl"),
        evaluated(home / "fp32", data=home / "columns.csv"),
        evaluated(
            home / "fp32",
            data=home / "columns.csv",
            columns="text=comment_text,labels=river+old king+war+music",
        ),
        evaluated(home / "fp32", data=home / "cells.csv", label_separator="|"),
    ]
    assert all(report["quality"] == found[0]["quality"] for report in found)
    columns = {"first": "comment_text", "second": None, "label": "river+old king+war+music"}
    assert found[1]["data"]["columns"] == columns
    with pytest.raises(DataError, match=r"If '\|' stands between classes, pass --label-separator"):
        evaluated(home / "fp32", data=cells_without_blanks(home))


def cells_without_blanks(home: Path) -> Path:
    """The rows whose cell is not empty, since a blank cell is a label that is missing."""
    lines = (home / "cells.csv").read_text().splitlines()
    path = home.parent / f"{home.name}-full.csv"
    path.write_text("\n".join(line for line in lines if not line.endswith(",")))
    return path


def test_a_drop_against_fp32(home: Path) -> None:
    """Without --data: the engine remembers the columns of its classes."""
    report = evaluated(home / "w8a8", baseline=home / "fp32")
    assert report["quality"]["n"] == 40  # without the rows that calibrated
    found = main_figure(report["quality"])
    assert found["name"] == "micro F1"
    assert found["drop"] == pytest.approx(found["baseline"] - found["value"])
    same = evaluated(home / "fp32", data=home / "rows.jsonl", baseline=home / "fp32", max_drop=0)
    assert main_figure(same["quality"])["drop_ci95"] == [0, 0]


def test_the_gate_is_of_micro_f1_and_classes_may_stand_in_another_order(home: Path) -> None:
    rows = {"data": home / "rows.jsonl"}
    alone = main_figure(evaluated(home / "other", **rows)["quality"])["value"]
    found = main_figure(evaluated(home / "fp32", baseline=home / "other", **rows)["quality"])
    assert found["baseline"] == alone and found["drop"] != 0
    better, worse = home / "other", home / "fp32"
    if found["drop"] < 0:
        better, worse = worse, better
    with pytest.raises(GateError, match="micro F1 drops by"):
        evaluated(worse, baseline=better, max_drop=0, **rows)


def test_predict_names_the_classes_above_the_threshold(home: Path, tmp_path: Path) -> None:
    engine = qdeploy.load(home / "fp32")
    for threshold in (None, 0.2, 0.7):
        out = tmp_path / f"answers-{threshold}.jsonl"
        words = ["predict", str(home / "fp32"), str(home / "rows.jsonl"), "--out", str(out)]
        words += [] if threshold is None else ["--threshold", str(threshold)]
        assert main([*words, "--json", str(tmp_path / "report.json")]) == 0
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        expected = engine.predict(TEXTS, threshold=threshold)
        assert [row["labels"] for row in answers] == [list(one.labels) for one in expected]
        for row, one in zip(answers, expected, strict=True):
            assert row["scores"] == pytest.approx(one.scores)
            assert all(row["scores"][name] > (threshold or 0.5) for name in row["labels"])
        counted = json.loads((tmp_path / "report.json").read_text())["answers"] or {}
        assert sum(counted.values()) == sum(len(one.labels) for one in expected)


def test_build_says_of_labels_what_eval_would(home: Path, tmp_path: Path) -> None:
    for name, fits in (("rows.jsonl", True), ("strange.jsonl", False)):
        text = (home / "rows.jsonl").read_text().replace("old king", "old king" if fits else "duke")
        (tmp_path / name).write_text(text)
        built = qdeploy.build(home / "model", tmp_path / f"{name}-engine", measure=False,
                              data=str(tmp_path / name), calibration_rows=8)  # fmt: skip
        assert (built["label_fault"] is None) == fits
        assert fits or "the label 'duke' is no class of the model" in str(built["label_fault"])


def test_options_that_do_not_fit(home: Path, tmp_path: Path) -> None:
    head_checkpoint(tmp_path / "checkpoint", ["bad", "good"])
    qdeploy.export(tmp_path / "checkpoint", tmp_path / "model")
    qdeploy.build(tmp_path / "model", tmp_path / "engine", strategy="fp32")
    other = tmp_path / "engine"
    with pytest.raises(PlanError, match="is for multi-label classifiers, and this is a classifier"):
        evaluated(other, data=home / "rows.jsonl", threshold=0.4)
    with pytest.raises(PlanError, match="--label-separator is for multi-label classifiers"):
        evaluated(other, data=home / "cells.csv", label_separator="|")
    with pytest.raises(PlanError, match="is for one column, and each class has a column"):
        evaluated(home / "fp32", data=home / "columns.csv", label_separator="|")
    with pytest.raises(PlanError, match="--label-separator is empty"):
        evaluated(home / "fp32", data=home / "cells.csv", label_separator="")
