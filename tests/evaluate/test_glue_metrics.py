"""GLUE's tasks by their own metric: report, gate, headline, page, card and sweep follow it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.errors import GateError
from qdeploy.evaluate.run import evaluate_engine
from qdeploy.report.card import model_card
from qdeploy.report.evaluation import headline
from qdeploy.report.figures import figures_of
from qdeploy.schemas.quality import main_figure
from tests.evaluate.bag import WORDS, engine_directory, table
from tests.evaluate.heads import head_checkpoint
from tests.report.reports import manifest

metrics = pytest.importorskip("sklearn.metrics")
TASKS = {
    "cola": (("unacceptable", "acceptable"), "sentence", "MCC"),
    "mrpc": (("not_equivalent", "equivalent"), "sentence1\tsentence2", "F1"),
    "qqp": (("not_duplicate", "duplicate"), "question1\tquestion2", "F1"),
    "sst2": (("negative", "positive"), "sentence", "accuracy"),
}
OFF: dict[str, Any] = {"latency": False, "threads": 1}


def rows_of(task: str, path: Path, count: int = 90) -> Path:
    """Three rows in four of the second class; the bag answers some of them wrong."""
    names, columns, _ = TASKS[task]
    lines = [f"{columns}\tlabel"]
    for at in range(count):
        texts = [f"w{at % 26} {('no', 'yes')[at % 7 < 3]} w{at * 7 % 26}", f"w{at * 5 % 26}"]
        lines.append("\t".join([*texts[: 1 + columns.count("\t")], names[at % 4 > 0]]))
    path.write_text("\n".join(lines) + "\n")
    return path


def engines(task: str, home: Path) -> list[Path]:
    """One, and one that hears a second word as `yes`."""
    found = []
    for name, heard in (("base", 0.0), ("own", 3.0)):
        votes = table()
        votes[[WORDS.index("w1"), WORDS.index("w2"), WORDS.index("w3")], 0] += heard
        own: dict[str, Any] = {"labels": list(TASKS[task][0]), "calibration": None}
        found.append(engine_directory(home / name, votes, strategy=name, **own))
    return found


@pytest.mark.usefixtures("numpy_engines")
@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_judged_by_its_own_metric(task: str, tmp_path: Path) -> None:
    names, _, metric = TASKS[task]
    data = rows_of(task, tmp_path / "rows.tsv")
    base, own = engines(task, tmp_path)
    given = {"data": data, "baseline": base, "task": task, **OFF}
    report = evaluate_engine(own, **given)
    assert report["quality"] is not None and report["metrics"] is not None
    assert report["quality"]["metric"] == metric
    answers = qdeploy.load(own).predict(texts_of(data, task))
    said = [names.index(one.label) for one in answers]
    gold = [names.index(name) for name in read_rows(data, task=task).labels or ()]
    assert report["metrics"]["accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))
    if metric == "accuracy":
        assert " % of 90 rows right" in headline(report)
        return
    figure = main_figure(report["quality"])
    of = {"MCC": metrics.matthews_corrcoef, "F1": metrics.f1_score}[metric]
    assert figure["value"] == pytest.approx(of(gold, said))
    assert headline(report).startswith(f"{metric} {figure['value']:.4f} on 90 rows, ")
    big = {one.name for one in figures_of(report) if one.headline}
    assert {metric, f"{metric} drop against base"} <= big and "accuracy" not in big
    assert {"accuracy", "accuracy drop against base"} <= {one.name for one in figures_of(report)}
    assert figure["drop"] is not None and figure["drop"] > 0.01
    with pytest.raises(GateError, match=f"{metric} drops by"):
        evaluate_engine(own, max_drop=100 * figure["drop"] - 0.1, **given)
    evaluate_engine(own, max_drop=100 * figure["drop"] + 0.1, **given)
    card = model_card(report, manifest())
    listed = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["metrics"]
    kinds = {"MCC": "matthews_correlation", "F1": "f1"}
    assert [one["type"] for one in listed] == [kinds[metric], "accuracy"]
    assert figure["drop_ci95"] is not None
    assert (f"points of {metric}**" in card) == (figure["drop_ci95"][0] > 0)


def texts_of(data: Path, task: str) -> Any:
    rows = read_rows(data, task=task)
    return (
        list(rows.first) if rows.second is None else list(zip(rows.first, rows.second, strict=True))
    )


@pytest.mark.usefixtures("numpy_engines")
def test_a_model_of_other_classes_is_judged_by_its_accuracy(tmp_path: Path) -> None:
    data = rows_of("mrpc", tmp_path / "rows.tsv")
    text = data.read_text().replace("not_equivalent", "no").replace("equivalent", "yes")
    data.write_text(text)
    engine = engine_directory(tmp_path / "e", labels=["no", "yes"], calibration=None)
    with pytest.warns(match="mrpc is judged by the F1 of the class 'equivalent', and the model"):
        report = evaluate_engine(engine, data=data, task="mrpc", **OFF)
    assert report["quality"] is not None and report["quality"]["metric"] == "accuracy"


@pytest.mark.integration
@pytest.mark.parametrize("hidden", [32, 64])
def test_stsb_is_judged_by_spearmans_correlation(hidden: int, tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    pairs = [(" ".join(rng.choice(WORDS[4:], 3)), " ".join(rng.choice(WORDS[4:], 2)))
             for _ in range(30)]  # fmt: skip
    scores = np.round(rng.uniform(-1, 5, 30), 3)
    scores[3] = -1  # a score as any other
    lines = [f"{a}\t{b}\t{score}" for (a, b), score in zip(pairs, scores, strict=True)]
    (tmp_path / "dev.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *lines]))
    head_checkpoint(tmp_path / "checkpoint", ["score"], hidden=hidden, problem_type="regression")
    qdeploy.export(tmp_path / "checkpoint", tmp_path / "model")
    qdeploy.build(tmp_path / "model", tmp_path / "engine", strategy="fp32")
    report = evaluate_engine(tmp_path / "engine", data=tmp_path, task="stsb", **OFF)
    assert report["quality"] is not None and report["quality"]["n"] == 30
    found = {one["name"]: one["value"] for one in report["quality"]["figures"]}
    said = [one.score for one in qdeploy.load(tmp_path / "engine").predict(pairs)]
    assert report["quality"]["metric"] == "spearman" and report["task"] == "stsb"
    assert found["spearman"] == pytest.approx(stats.spearmanr(scores, said).statistic)
    assert found["pearson"] == pytest.approx(stats.pearsonr(scores, said).statistic)


@pytest.mark.slow
@pytest.mark.integration
def test_a_sweep_compares_by_the_tasks_metric(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    data = rows_of("mrpc", tmp_path / "rows.tsv", 40)
    head_checkpoint(tmp_path / "checkpoint", ["LABEL_0", "LABEL_1"])
    qdeploy.export(tmp_path / "checkpoint", tmp_path / "model")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "task: mrpc\ncalibration: {rows: 8, seed: 0}\n"
        "latency: {shapes: [2x16], warmup: 1, iterations: 10, threads: 1}\n"
        "trials:\n  - {strategy: w8a8}\n"
    )
    page = tmp_path / "sweep.html"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = qdeploy.sweep(
            tmp_path / "model",
            tmp_path / "swept",
            recipe=recipe,
            data=str(data),
            max_drop=100,
            html=page,
        )
    base, own = result["trials"]
    report = evaluate_engine(
        tmp_path / "swept" / "trials" / own["key"] / "engine",
        data=tmp_path / "swept" / "rows.jsonl",
        baseline=tmp_path / "swept" / "trials" / base["key"] / "engine",
        task="mrpc",
        **OFF,
    )
    assert report["quality"] is not None
    figure = main_figure(report["quality"])
    assert own["metric"] == figure["name"] == "F1"
    assert [own[k] for k in ("value", "ci95", "drop", "drop_ci95")] == [
        figure[k] for k in ("value", "ci95", "drop", "drop_ci95")
    ]
    assert base["drop_ci95"] == [0, 0] and own["mcnemar_p"] is None
    assert "F1 of FP32" in page.read_text()
