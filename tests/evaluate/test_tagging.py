"""Entities against gold tags: by hand, against seqeval where it is, and through an engine."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import Token
from qdeploy.errors import DataError, QDeployWarning
from qdeploy.evaluate.tagging import (
    counts_of,
    entities_of,
    gold_tags,
    predicted_tags,
    tag_quality,
)
from qdeploy.schemas.quality import main_figure
from tests.evaluate.heads import head_checkpoint
from tests.once import Once

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O O", []),
        ("B-PER I-PER O", [("PER", 0, 2)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),  # an I- that continues nothing begins one
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("S-PER B-LOC I-LOC E-LOC S-LOC", [("PER", 0, 1), ("LOC", 1, 4), ("LOC", 4, 5)]),
        ("B-creative-work I-creative-work", [("creative-work", 0, 2)]),
        ("PER PER O LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
    ],
)
def test_entities_of_tags(tags: str, entities: list[tuple[str, int, int]]) -> None:
    assert entities_of(tags.split()) == set(entities)


def test_the_figures_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC"]]
    said = [["B-PER", "O", "O", "B-LOC"], ["B-LOC"]]
    found = {f["name"]: f["value"] for f in tag_quality(counts_of(gold, said), None)["figures"]}
    assert found["entity precision"] == pytest.approx(2 / 3)
    assert found["entity recall"] == pytest.approx(2 / 3)
    assert found["entity f1"] == pytest.approx(2 / 3)
    assert found["word accuracy"] == pytest.approx(4 / 5)
    nothing = tag_quality(counts_of(gold, [["O"] * 4, ["O"]]), None)
    assert main_figure(nothing)["value"] == 0


def test_the_figures_are_seqevals() -> None:
    """Random tags of IOB2, also with I- that continue nothing."""
    metrics = pytest.importorskip("seqeval.metrics")
    rng = random.Random(0)
    for _ in range(50):
        gold, said = (
            [[rng.choice(LABELS) for _ in range(1 + at)] for at in range(12)] for _ in range(2)
        )
        found = {f["name"]: f["value"] for f in tag_quality(counts_of(gold, said), None)["figures"]}
        assert found["entity f1"] == pytest.approx(metrics.f1_score(gold, said))
        assert found["entity precision"] == pytest.approx(metrics.precision_score(gold, said))
        assert found["entity recall"] == pytest.approx(metrics.recall_score(gold, said))


def test_a_drop_is_paired_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    gold = [["B-PER", "O"] for _ in range(300)]
    base = [["B-PER", "O"] if hit else ["O", "O"] for hit in rng.random(300) < 0.8]
    own = [
        tags if keep else ["O", "O"] for tags, keep in zip(base, rng.random(300) < 0.9, strict=True)
    ]
    found = main_figure(tag_quality(counts_of(gold, own), counts_of(gold, base)))
    assert found["drop_ci95"] is not None
    low, high = found["drop_ci95"]
    assert 0 < low < found["drop"] < high
    same = main_figure(tag_quality(counts_of(gold, own), counts_of(gold, own)))
    assert same["drop_ci95"] == [0, 0]


def rows(texts: list[str], labels: list[str]) -> Rows:
    return Rows(tuple(texts), None, tuple(labels), "rows.conll", tuple(range(len(texts))))


def test_a_word_has_the_class_of_its_first_token() -> None:
    text = "Ada likes Rome"
    tokens = [None, Token(5, "A", 0, 1), Token(6, "##da", 1, 3), Token(7, " likes", 3, 9), None]
    logits = np.eye(5, dtype=np.float32)[[3, 1, 4, 0, 3]]
    given = rows([text], ["O\x1fO\x1fO"])
    # the last word was cut off, and special tokens say nothing
    assert predicted_tags(given, [tokens], logits, LABELS) == [["B-PER", "O", "O"]]


def test_gold_tags_are_names_or_numbers_of_the_model() -> None:
    assert gold_tags(rows(["Ada here"], ["B-PER\x1fO"]), LABELS) == [["B-PER", "O"]]
    assert gold_tags(rows(["Ada here"], ["1\x1f0"]), LABELS) == [["B-PER", "O"]]
    with pytest.raises(DataError, match="2 words and 1 tags"):
        gold_tags(rows(["Ada here"], ["1"]), LABELS)
    with pytest.raises(DataError, match="'B-ORG' is no class"):
        gold_tags(rows(["Ada here"], ["B-ORG\x1fO"]), LABELS)


@pytest.fixture(scope="module")
def tagger(once: Once) -> Path:
    """A tagger's engines and a CoNLL file; not to be changed."""

    def make(home: Path) -> None:
        rng = random.Random(0)
        words = ["river", "city", "king", "war", "year", "music", "light", "church", "school"]
        sentences = [
            "\n".join(
                f"{rng.choice(words)}\t{rng.choice(LABELS)}" for _ in range(rng.randint(1, 12))
            )
            for _ in range(40)
        ]
        (home / "rows.conll").write_text("\n\n".join(sentences), "utf-8")
        head_checkpoint(home / "checkpoint", LABELS, auto="Token")
        qdeploy.export(home / "checkpoint", home / "model")
        qdeploy.build(home / "model", home / "fp32", strategy="fp32")
        qdeploy.build(home / "model", home / "w8a8", strategy="w8a8", data=str(home / "rows.conll"),
                      calibration_rows=40)  # fmt: skip

    return once("tagger", 1, make)[0]


@pytest.mark.integration
def test_eval_of_a_tagger(tagger: Path) -> None:
    data = tagger / "rows.conll"
    alone = qdeploy.evaluate(tagger / "fp32", data=data, latency=False)
    with pytest.warns(QDeployWarning, match="calibrated the engine: its entity f1 is too good"):
        report = qdeploy.evaluate(
            tagger / "w8a8", data=data, baseline=tagger / "fp32", latency=False
        )
    assert report["quality"] is not None
    assert alone["quality"] is not None
    assert report["quality"]["metric"] == "entity f1"
    found = main_figure(report["quality"])
    assert found["baseline"] == main_figure(alone["quality"])["value"]
    engine = qdeploy.load(tagger / "fp32")
    texts = [block.split("\n") for block in data.read_text("utf-8").split("\n\n")]
    right = words = 0
    for lines in texts:
        pairs = [line.split("\t") for line in lines]
        text = " ".join(word for word, _ in pairs)
        starts = {at: n for n, at in enumerate(
            sum(len(word) + 1 for word, _ in pairs[:n]) for n in range(len(pairs)))}  # fmt: skip
        (entities,) = engine.entities([text], ignore=())
        said = {starts[e.start]: e.label for e in entities if e.start in starts}
        right += sum(said[n] == tag for n, (_, tag) in enumerate(pairs))
        words += len(pairs)
    accuracy = next(f for f in alone["quality"]["figures"] if f["name"] == "word accuracy")
    assert accuracy["value"] == pytest.approx(right / words)


@pytest.mark.integration
def test_gold_spans_give_the_figures_of_their_tags(tagger: Path, tmp_path: Path) -> None:
    lines = []
    for block in (tagger / "rows.conll").read_text("utf-8").split("\n\n"):
        words, tags = zip(*(line.split("\t") for line in block.split("\n")), strict=True)
        starts = [sum(len(word) + 1 for word in words[:at]) for at in range(len(words))]
        spans = [
            {"start": starts[first], "end": starts[last - 1] + len(words[last - 1]), "label": kind}
            for kind, first, last in entities_of(tags)
        ]
        lines.append(json.dumps({"text": " ".join(words), "entities": spans}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    found, wanted = (
        qdeploy.evaluate(tagger / "fp32", data=data, latency=False)["quality"]
        for data in (tmp_path / "rows.jsonl", tagger / "rows.conll")
    )
    assert found is not None and wanted is not None
    for own, other in zip(found["figures"], wanted["figures"], strict=True):
        exact = own["name"] == "word accuracy"  # of I- that begin an entity the tag is another
        assert exact or own["value"] == other["value"]


@pytest.mark.integration
def test_files_of_words_are_answered(tagger: Path, tmp_path: Path) -> None:
    """CoNLL, and lists in JSON lines: a text of its words, and the columns as they came."""
    data, out = tagger / "rows.conll", tmp_path / "out.jsonl"
    result = qdeploy.predict_file(tagger / "fp32", data, out=out, keep="tokens,ner_tags")
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert result["rows"] == len(found) == 40 and result["unanswered"] == 0
    texts = [" ".join(row["tokens"]) for row in found]
    wanted = qdeploy.load(tagger / "fp32").entities(texts)
    for row, entities in zip(found, wanted, strict=True):
        places = [(one["label"], one["start"], one["end"]) for one in row["entities"]]
        assert places == [(one.label, one.start, one.end) for one in entities]
        assert len(row["tokens"]) == len(row["ner_tags"])
    lists = tmp_path / "rows.jsonl"
    rows = [{name: row[name] for name in ("tokens", "ner_tags")} for row in found]
    lists.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    again = qdeploy.predict_file(
        tagger / "fp32", lists, out=tmp_path / "again", keep="tokens,ner_tags"
    )
    assert again["rows"] == 40 and (tmp_path / "again").read_text() == out.read_text()


@pytest.mark.integration
def test_words_behind_the_cut_are_said(tagger: Path) -> None:
    with pytest.warns(QDeployWarning, match="Words behind the cut have no tag: their entities"):
        qdeploy.evaluate(tagger / "fp32", data=tagger / "rows.conll", max_length=6, latency=False)


@pytest.mark.integration
def test_a_metric_of_ones_own_gets_tags(tagger: Path, tmp_path: Path) -> None:
    seen: list[tuple[Mapping[str, Any], Any]] = []

    def right(outputs: Sequence[Mapping[str, Any]], labels: Sequence[Any] | None) -> float:
        assert labels is not None
        seen.extend(zip(outputs, labels, strict=True))
        pairs = [(a, b) for row, tags in zip(outputs, labels, strict=True)
                 for a, b in zip(row["tags"], tags, strict=True)]  # fmt: skip
        return sum(a == b for a, b in pairs) / len(pairs)

    qdeploy.build(tagger / "model", tmp_path / "e", strategy="auto", metric=right, max_drop=100,
                  data=str(tagger / "rows.conll"), calibration_rows=16, measure=False,
                  opt_shape="2x16")  # fmt: skip
    row, tags = seen[0]
    assert row["logits"].shape[1] == len(LABELS) and set(row["tags"]) | set(tags) <= set(LABELS)
