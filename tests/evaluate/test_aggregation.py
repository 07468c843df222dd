"""Entities put together as transformers' pipeline does it, for taggers with every tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

import qdeploy
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


def test_another_strategy(tagger: tuple[Path, Path]) -> None:
    with pytest.raises(PlanError, match="average"):
        qdeploy.load(tagger[1]).entities(TEXTS, aggregation_strategy="mean")
