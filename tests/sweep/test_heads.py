"""Sweeps of other heads than classifiers compare by the head's own metric."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.cli import tables
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate.options import EvalOptions
from qdeploy.options import changed
from qdeploy.report.sweep import page
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint
from tests.tiny import tiny_checkpoint

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("yaml")
pytestmark = pytest.mark.integration

TAGS = ("O", "B-PER", "I-PER")
WORDS = ("the", "king", "of", "city", "river", "north", "year", "was", "war", "music", "light")
RECIPE = """
accuracy: {limit: 40}
calibration: {rows: 16}
latency: {shapes: [2x16], warmup: 1, iterations: 6}
trials:
  - {strategy: w8a8}
"""
METRICS = {
    "one logit": "spearman",
    "tags": "entity f1",
    "spans": "entity f1",
    "embedding": "spearman",
    "texts": "recall@10",
    "answers": "answer f1",
}


def rows_file(head: str, home: Path) -> Path:
    draw, lines = random.Random(1), []
    for _ in range(60):
        words, others = (draw.choices(WORDS, k=draw.randint(3, 9)) for _ in range(2))
        row: dict[str, Any] = {"sentence1": " ".join(words), "sentence2": " ".join(others)}
        row["score"] = draw.random()
        if head == "tags":
            row = {"tokens": words, "ner_tags": draw.choices(TAGS, k=len(words))}
        if head == "spans":
            row = {"text": " ".join(words), "spans": draw.choice([[], [[0, len(words[0]), "PER"]]])}
        if head == "texts":
            row = {"text": " ".join(words)}
        if head == "answers":  # most contexts are longer than a window
            context, at = " ".join(words * 40), draw.randrange(len(words))
            start = len(" ".join(words[:at])) + (at > 0)
            gold = {"text": [words[at]], "answer_start": [start]}
            row = {"question": "which?", "context": context, "answers": gold}
        lines.append(json.dumps(row))
    path = home / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def checkpoint(head: str, home: Path) -> Path:
    if head in ("embedding", "texts"):
        return sentence_checkpoint(home)
    if head in ("tags", "spans"):
        return head_checkpoint(home, TAGS, auto="Token")
    if head == "answers":
        return tiny_checkpoint(home, "bert", "question-answering")
    return head_checkpoint(home, ("score",))


# the metrics themselves have faster tests; a sweep of each is half a minute
@pytest.mark.parametrize(
    "head",
    [
        *("tags", "texts", "answers"),
        *(
            pytest.param(head, marks=pytest.mark.slow)
            for head in ("one logit", "spans", "embedding")
        ),
    ],
)
def test_trials_are_compared_by_the_heads_metric(
    head: str, once: Once, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def swept(home: Path) -> Any:
        (home / "recipe.yaml").write_text(RECIPE)
        data = rows_file(head, home)
        model = home / "model"
        qdeploy.export(checkpoint(head, home / "checkpoint"), model)
        return qdeploy.sweep(model, home / "sweep", recipe=home / "recipe.yaml", data=str(data))

    home, result = once("swept", head, swept)
    base, trial = result["trials"]
    name = METRICS[head]
    assert (base["metric"], trial["metric"], base["drop"]) == (name, name, 0)
    assert trial["drop"] == pytest.approx(base["value"] - trial["value"], abs=1e-12)
    low, high = trial["drop_ci95"]
    assert low <= trial["drop"] <= high and trial["mcnemar_p"] is None
    assert result["next"]["key"] == trial["key"]

    # the figures are those of `eval` on the same rows
    engine, fp32 = (home / "sweep" / "trials" / one["key"] / "engine" for one in (trial, base))
    options = EvalOptions(data=str(home / "sweep" / "rows.jsonl"), latency=False)
    if head == "texts":
        with pytest.warns(QDeployWarning, match="Quality was not measured"):
            report = qdeploy.evaluate(engine, changed(options, baseline=fp32))
        assert report["baseline"]["embeddings"]["recall_at_10"] == pytest.approx(trial["value"])
    else:
        report = qdeploy.evaluate(engine, options)
        measured = {one["name"]: one["value"] for one in report["quality"]["figures"]}
        assert measured[name] == trial["value"]
    assert report["data"]["n"] == trial["n"]

    assert not any("cut" in text for text in result["warnings"]), "windows cut nothing"
    text = page(result).headline
    assert "points lost" in text
    tables.sweep(result)
    assert name.split()[0] in capsys.readouterr().out

    # what is done stays, and what was damaged is made again
    again = qdeploy.sweep(home / "model", home / "sweep", recipe=home / "recipe.yaml")
    assert again["trials"] == result["trials"]
