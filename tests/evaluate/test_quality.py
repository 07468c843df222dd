"""Metrics of heads that answer with values: against plain formulas, with intervals that hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.data.rows import Rows
from qdeploy.errors import DataError, GateError, PlanError
from qdeploy.evaluate.quality import (
    Values,
    metric_of,
    no_quality,
    quality_of,
    values_of,
)
from qdeploy.evaluate.scoring import check_rankings
from qdeploy.head import EMBEDDINGS, REGRESSION, SEQUENCES, SPANS, Head
from qdeploy.schemas.quality import main_figure
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

VALUE = Head(SEQUENCES, ("score",), problem_type=REGRESSION)
RERANKER = Head(SEQUENCES, ("LABEL_0",))
EMBEDS = Head(EMBEDDINGS, (), embedding={"pooling": ["mean"], "dimension": 2, "normalized": True})


def figure(found: Any, name: str) -> Any:
    return next(one for one in found["figures"] if one["name"] == name)


def rows(labels: list[str] | None, first: list[str] | None = None) -> Rows:
    count = 4 if labels is None else len(labels)
    texts = first or [f"text {at}" for at in range(count)]
    given = None if labels is None else tuple(labels)
    return Rows(tuple(texts), tuple(f"b {at}" for at in range(count)), given, "rows.tsv",
                tuple(range(count)))  # fmt: skip


def test_correlations_by_hand() -> None:
    gold = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    answers = np.array([1.0, 3.0, 2.0, 4.0, 50.0])
    found = quality_of(Values(answers, gold), VALUE, None)
    assert figure(found, "spearman")["value"] == pytest.approx(0.9)  # 1 − 6·2 / (5·24)
    assert figure(found, "pearson")["value"] == pytest.approx(np.corrcoef(gold, answers)[0, 1])
    assert figure(found, "mse")["value"] == pytest.approx(np.mean((gold - answers) ** 2))
    assert found["metric"] == "spearman"
    assert found["kendall"] is None


def test_a_drop_has_its_interval_and_its_sign() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=400)
    base = gold + 0.1 * rng.normal(size=400)
    worse = gold + 0.6 * rng.normal(size=400)
    found = quality_of(Values(worse, gold), VALUE, Values(base, gold))
    for name in ("spearman", "pearson", "mse"):
        one = figure(found, name)
        low, high = one["drop_ci95"]
        assert 0 < low < one["drop"] < high
    same = quality_of(Values(base, gold), VALUE, Values(base, gold))
    assert main_figure(same)["drop"] == 0
    assert main_figure(same)["drop_ci95"] == [0, 0]
    assert same["kendall"] == pytest.approx(1)


def test_the_interval_holds_the_true_correlation_in_about_95_of_100_cases() -> None:
    hits = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        gold = rng.normal(size=200)
        answers = 0.6 * gold + 0.8 * rng.normal(size=200)  # ρ = 0.6
        low, high = figure(quality_of(Values(answers, gold), VALUE, None), "pearson")["ci95"]
        hits += low <= 0.6 <= high
    assert 26 <= hits <= 30


def test_rankings_of_queries() -> None:
    queries = np.array([0, 0, 0, 1, 1])
    gold = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    answers = np.array([3.0, 2.0, 1.0, 5.0, 4.0])  # the right text is second, then first
    found = quality_of(Values(answers, gold, queries), RERANKER, None)
    assert figure(found, "mrr@10")["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert figure(found, "ndcg@10")["value"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["queries"] == 2


def test_queries_that_cannot_be_ranked_do_not_count() -> None:
    """Those of one text, and those without a relevant one, are the same for every engine."""
    queries = np.array([0, 0, 0, 1, 1, 2, 3, 4, 4])
    gold = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    answers = np.array([3.0, 2.0, 1.0, 5.0, 4.0, 1.0, 2.0, 7.0, 8.0])
    found = quality_of(Values(answers, gold, queries), RERANKER, None)
    few = quality_of(Values(answers[:5], gold[:5], queries[:5]), RERANKER, None)
    assert found["queries"] == few["queries"] == 2
    for name in ("mrr@10", "ndcg@10"):
        assert figure(found, name)["value"] == figure(few, name)["value"]


def test_gains_below_zero_have_no_ndcg() -> None:
    """As of a teacher's logits; a text is relevant above 0."""
    queries = np.array([0, 0, 1, 1])
    gold, answers = np.array([2.5, -1.0, -3.0, 0.5]), np.array([1.0, 2.0, 3.0, 4.0])
    values = Values(answers, gold, queries)
    found = quality_of(values, RERANKER, None)
    names = [one["name"] for one in found["figures"]]
    assert "ndcg@10" not in names and figure(found, "mrr@10")["value"] == 0.75
    table = rows(["2.5", "-1", "-3", "0.5"], ["q", "q", "r", "r"])
    with pytest.raises(DataError, match=r"takes labels from 0 on.*-3. Take mrr@10"):
        check_rankings("ndcg@10", table, values)
    check_rankings("mrr@10", table, values)


def test_rows_of_one_query_are_a_ranking_and_others_are_not() -> None:
    outputs = np.arange(4, dtype=np.float32)[:, None]
    labels = ["1", "0", "0", "1"]
    apart = values_of(RERANKER, rows(labels), outputs)
    assert apart.parts == [] and apart.rankings == ()
    grouped = values_of(RERANKER, rows(labels, ["q", "q", "r", "r"]), outputs)
    assert [part.tolist() for part in grouped.parts] == [[0, 1], [2, 3]]


def test_embeddings_compare_the_texts_of_a_pair() -> None:
    vectors = np.array([[1, 0], [2, 0], [0, 1], [1, 0], [1, 1], [1, 0]], np.float32)
    found = values_of(EMBEDS, rows(["5.0", "0", "2.5"]), vectors)
    assert found.answers == pytest.approx([1, 0, 2**-0.5])
    assert found.gold.tolist() == [5, 0, 2.5]


def test_labels_that_are_no_numbers() -> None:
    with pytest.raises(DataError, match=r"row 2: the label is 'good'.*--columns"):
        values_of(VALUE, rows(["1", "good", "3"]), np.zeros((3, 1), np.float32))


@pytest.mark.parametrize("gold", [[1.0, 1.0, 1.0], [1.0, 2.0]])
def test_too_little_to_correlate(gold: list[float]) -> None:
    with pytest.raises(DataError, match="three rows or more"):
        quality_of(Values(np.arange(len(gold)) * 1.0, np.array(gold)), VALUE, None)


def test_why_there_is_none() -> None:
    several = Head(SEQUENCES, ("a", "b"), problem_type=REGRESSION)
    assert metric_of(several) is None
    assert "measured so far" in str(no_quality(several, rows(["1"]), stands_in=False))
    answers = Head(SPANS, ("LABEL_0", "LABEL_1"))
    assert metric_of(answers) == "answer f1"
    single = replace(rows(["1"]), second=None)
    assert "in a context" in str(no_quality(answers, single, stands_in=False))
    assert no_quality(answers, rows(["1"]), stands_in=False) is None
    assert "stands in" in str(no_quality(VALUE, rows(["1"]), stands_in=True))
    assert "has no labels" in str(no_quality(VALUE, rows(None), stands_in=False))
    assert no_quality(VALUE, rows(["1"]), stands_in=False) is None


@pytest.fixture(scope="module")
def scored(once: Once) -> Path:
    """rows.tsv of scored pairs, and engines of a reranker and of an embedding model."""

    def make(home: Path) -> None:
        rng = np.random.default_rng(0)
        words = [
            "river",
            "city",
            "king",
            "war",
            "year",
            "music",
            "light",
            "church",
            "school",
            "energy",
            "north",
            "south",
        ]
        lines = ["sentence1\tsentence2\tscore"]
        for _ in range(60):
            first, second = (" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(2))
            lines.append(f"{first}\t{second}\t{rng.uniform(0, 5):.3f}")
        (home / "rows.tsv").write_text("\n".join(lines), "utf-8")
        head_checkpoint(home / "reranker-checkpoint", ["LABEL_0"])
        sentence_checkpoint(home / "embeds-checkpoint")
        for name in ("reranker", "embeds"):
            qdeploy.export(home / f"{name}-checkpoint", home / name)
            for strategy in ("fp32", "w8a8"):
                rows = {"data": str(home / "rows.tsv"), "calibration_rows": 40}
                given: Any = {} if strategy == "fp32" else rows
                qdeploy.build(home / name, home / f"{name}-{strategy}", strategy=strategy, **given)

    return once("scored", 1, make)[0]


@pytest.mark.integration
@pytest.mark.parametrize("name", ["reranker", "embeds"])
def test_eval_measures_them(name: str, scored: Path) -> None:
    report = qdeploy.evaluate(
        scored / f"{name}-w8a8", data=scored / "rows.tsv", baseline=scored / f"{name}-fp32",
        seconds=0.5,
    )  # fmt: skip
    quality, base = report["quality"], report["baseline"]
    assert quality is not None
    assert base is not None
    assert quality["n"] == 20  # without the rows that calibrated
    found = main_figure(quality)
    assert found["drop"] == pytest.approx(found["baseline"] - found["value"])
    assert quality["kendall"] is not None
    assert 0.5 < quality["kendall"] <= 1
    assert report["metrics"] is None
    assert report["no_accuracy"] is None
    assert ("embeddings" in base) == (name == "embeds")
    if name == "embeds":
        assert 0.9 < base["embeddings"]["cosine_mean"] <= 1
        assert base["embeddings"]["texts"] == 40
    json.dumps(report)


@pytest.mark.integration
def test_max_drop_is_of_the_heads_own_metric(scored: Path) -> None:
    given: Any = {"data": scored / "rows.tsv", "latency": False}
    engine, base = scored / "embeds-w8a8", scored / "embeds-fp32"
    qdeploy.evaluate(engine, baseline=base, max_drop=100, **given)
    qdeploy.evaluate(base, baseline=base, max_drop=0, **given)
    quality = qdeploy.evaluate(engine, baseline=base, **given)["quality"]
    assert quality is not None
    drop = main_figure(quality)["drop"]
    assert drop is not None
    better, worse = (engine, base) if drop < 0 else (base, engine)
    with pytest.raises(GateError, match="spearman drops"):
        qdeploy.evaluate(worse, baseline=better, max_drop=0, **given)


@pytest.mark.integration
def test_a_reranker_ranks(scored: Path) -> None:
    engine = qdeploy.load(scored / "reranker-fp32")
    texts = ["river city", "king of the war", "music", "river city", "old school energy"]
    scores = [one.score for one in engine.predict([("who was king", text) for text in texts])]
    found = engine.rank("who was king", texts)
    assert sorted(one.index for one in found) == [0, 1, 2, 3, 4]
    assert [one.score for one in found] == sorted(scores, reverse=True)
    assert all(one.text == texts[one.index] and one.score == scores[one.index] for one in found)
    places = [one.index for one in found]
    assert places.index(0) < places.index(3)  # of equal scores the earlier text comes first
    assert engine.rank("who was king", texts, top_k=2) == found[:2]
    assert engine.rank("who was king", []) == []
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(PlanError, match="1 or more was expected"):
            engine.rank("who was king", texts, top_k=wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="lone text"):
        engine.rank("who", "river")
    with pytest.raises(PlanError, match=r"Call encode\(\)"):
        qdeploy.load(scored / "embeds-fp32").rank("who", texts)
