"""Entities put together as transformers' pipeline does it, for taggers with every tokenizer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import transformers

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import PlanError
from qdeploy.evaluate.aggregation import STRATEGIES
from tests.exports import Exports

TEXTS = [
    "the river and the city of the king",
    "Who was king? In music, light-school!",
    "unbuilt  churches schools",
    "x",
]
FAMILIES = ("bert", "roberta", "xlm-roberta", "deberta-v2")


@pytest.fixture(scope="module", params=FAMILIES)
def tagger(
    request: pytest.FixtureRequest, exported: Exports, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A checkpoint and its FP32 engine."""
    done = exported(request.param, "token-classification")
    engine = tmp_path_factory.mktemp("tagger") / "engine"
    qdeploy.build(done.model_dir, engine, strategy="fp32")
    return done.checkpoint, engine


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_entities_are_those_of_the_pipeline(strategy: str, tagger: tuple[Path, Path]) -> None:
    checkpoint, engine = tagger
    run: Any = transformers.pipeline(
        "token-classification", model=str(checkpoint), aggregation_strategy=strategy
    )
    found = qdeploy.load(engine).entities(TEXTS, aggregation_strategy=strategy)
    assert any(found)
    for text, own in zip(TEXTS, found, strict=True):
        wanted = run(text)
        key = "entity" if strategy == "none" else "entity_group"
        assert [(e.label, e.start, e.end) for e in own] == [
            (w[key], w["start"], w["end"]) for w in wanted
        ]
        assert [e.score for e in own] == pytest.approx([w["score"] for w in wanted], abs=1e-4)
        if strategy != "none":
            assert [e.word for e in own] == [text[e.start : e.end] for e in own]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_file_gets_the_same_entities(
    strategy: str, tagger: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.txt", tmp_path / "out.jsonl"
    rows.write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    asked = ["predict", str(tagger[1]), str(rows), "--out", str(out), "--quiet"]
    assert main([*asked, "--aggregation-strategy", strategy]) == 0
    wanted = qdeploy.load(tagger[1]).entities(TEXTS, aggregation_strategy=strategy)
    for line, text, entities in zip(
        out.read_text("utf-8").splitlines(), TEXTS, wanted, strict=True
    ):
        found = json.loads(line)["entities"]
        for own, entity in zip(found, entities, strict=True):
            assert own == asdict(entity) | {"score": pytest.approx(entity.score, rel=1e-6)}
            if strategy != "none":
                assert own["word"] == text[own["start"] : own["end"]]


def test_other_heads_have_no_tokens_to_put_together(exported: Exports, tmp_path: Path) -> None:
    qdeploy.build(exported("bert").model_dir, tmp_path / "engine", strategy="fp32")
    with pytest.raises(
        PlanError, match="--aggregation-strategy is for token classifiers, and this"
    ):
        qdeploy.predict_file(
            tmp_path / "engine", tmp_path / "none.txt", aggregation_strategy="simple"
        )


def test_another_strategy(tagger: tuple[Path, Path]) -> None:
    with pytest.raises(PlanError, match="average"):
        qdeploy.load(tagger[1]).entities(TEXTS, aggregation_strategy="mean")
