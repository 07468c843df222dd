"""`--strategy auto` of other heads than classifiers: gated by their own metrics."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.errors import GateError, PlanError
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.integration

TAGS = ("O", "B-PER", "I-PER")
WORDS = ("the", "king", "of", "city", "river", "north", "year", "was", "war", "music", "light")


def checkpoint(head: str, home: Path, hidden: int) -> Path:
    if head == "embedding":
        return sentence_checkpoint(home, hidden=hidden)
    if head == "tags":
        return head_checkpoint(home, TAGS, auto="Token", hidden=hidden)
    return head_checkpoint(home, ("score",), hidden=hidden)


def rows_file(head: str, home: Path) -> Path:
    draw = random.Random(0)
    lines = []
    for _ in range(60):
        words, others = (draw.choices(WORDS, k=draw.randint(3, 9)) for _ in range(2))
        row: dict[str, Any] = {"sentence1": " ".join(words), "sentence2": " ".join(others)}
        if head == "tags":
            row = {"tokens": words, "ner_tags": draw.choices(TAGS, k=len(words))}
        elif head == "one logit":
            row["score"] = draw.random()
        lines.append(json.dumps(row))
    path = home / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("hidden", [32, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("head", "metric", "labelled"),
    [
        ("one logit", "spearman", True),
        ("tags", "entity f1", True),
        ("embedding", "recall@10", False),
    ],
)
def test_the_gate_is_the_heads_own(
    head: str, metric: str, labelled: bool, hidden: int, once: Once, tmp_path: Path
) -> None:
    def model(home: Path) -> Path:
        qdeploy.export(checkpoint(head, home / "checkpoint", hidden), home / "model")
        return home / "model"

    _, source = once("model of auto", (head, hidden), model)
    data = rows_file(head, tmp_path)
    given: Any = {"strategy": "auto", "data": str(data), "calibration_rows": 16}
    found = qdeploy.build(
        source, tmp_path / "engine", opt_shape="2x16", max_drop=100, measure=False, **given
    )
    search = found["search"]
    assert search["metric"] == metric and search["labelled"] is labelled
    assert search["rows"] == 44 and search["max_drop"] == 100
    targets = [t["options"].get("noise_target") for t in search["tried"]]
    assert (36.0 in targets) is (head != "tags")
    assert all(("cosine" in tried) is (head == "embedding") for tried in search["tried"])
    manifest = json.loads((tmp_path / "engine" / "qdeploy.json").read_text("utf-8"))
    assert manifest["search"] == search


def test_a_metric_of_ones_own_gates(once: Once, tmp_path: Path) -> None:
    """Nothing but FP32 itself would pass: the refusal names the metric, and nothing is written."""

    def model(home: Path) -> Path:
        qdeploy.export(checkpoint("one logit", home / "checkpoint", 32), home / "model")
        return home / "model"

    _, source = once("model of auto", ("one logit", 32), model)
    exact = list[float]()

    def equal_to_fp32(outputs: Any, labels: Any) -> float:
        own = [float(row["logits"][0]) for row in outputs]
        if not exact:
            exact.extend(own)
        return -max(abs(a - b) for a, b in zip(own, exact, strict=True)) * 1e6

    given: Any = {"strategy": "auto", "data": str(rows_file("one logit", tmp_path))}
    given |= {"calibration_rows": 16, "opt_shape": "2x16"}
    with pytest.raises(GateError, match="hundredths of the equal_to_fp32") as caught:
        qdeploy.build(source, tmp_path / "engine", max_drop=0.1, metric=equal_to_fp32, **given)
    assert caught.value.report["metric"] == "equal_to_fp32"
    assert not (tmp_path / "engine").exists()
    with pytest.raises(PlanError, match="--metric is for --strategy auto"):
        qdeploy.build(source, tmp_path / "engine", metric="spearman")
