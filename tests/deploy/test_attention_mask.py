"""Attention masks at a lighter value: the same probabilities, and refused where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy.passes.attention_mask import (
    LARGEST_LEAK,
    MASKED,
    LightenMasks,
    leak,
)
from qdeploy.deploy.passes.base import PassResult
from qdeploy.deploy.passes.equivalence import TOLERANCE, ModelInputs, Reference, padded_feeds
from qdeploy.files.artifact import read_json
from qdeploy.graph.constants import constant
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import Toy, plan_of
from tests.tiny import FAMILIES, LAYERS

LOWEST = np.float32(np.finfo(np.float32).min)
TOY = ModelInputs(("input_ids",), max_length=8, pad_token_id=0)  # probed with 1 … 8
NOTHING = Structure((), (), (), (), {}, {})  # the pass looks at no site


def padded(where: Source) -> dict[str, Any]:
    model, _ = where.graph()
    return padded_feeds(model, where.inputs())


def lightened(model: ir.Model, inputs: ModelInputs) -> PassResult:
    """The pass alone, in place."""
    return LightenMasks(inputs).apply(model, plan_of(NOTHING, {}), NOTHING)


SMALL_SCORES = tuple(f for f in FAMILIES if f != "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_outputs(family: str, source: Callable[[str], Source]) -> None:
    """The planted outliers drive BERT's scores so high that its mask has to stay."""
    where = source(family)
    original, structure = where.graph()
    done = where.rewritten(original, plan_of(structure, {}), structure)
    light = original.clone()
    watched = lightened(light, where.inputs()).watched
    assert len(watched) == LAYERS
    found = Reference(original, padded(where)).compare(done.model, watched)
    assert found.difference < TOLERANCE
    assert leak(list(found.before.values()), list(found.after.values())) <= LARGEST_LEAK
    expected = MASKED if family in SMALL_SCORES else None
    assert done.report["attention_mask"]["value"] == expected
    assert (done.report["attention_mask"]["largest_leak"] <= LARGEST_LEAK) == (expected is not None)
    assert (done.results["attention_mask"].reason == "") == (expected is not None)


def test_denormals_are_gone(source: Callable[[str], Source]) -> None:
    where = source("mpnet")
    original, _ = where.graph()
    changed = original.clone()
    result = lightened(changed, where.inputs())
    feeds = padded(where)
    found = Reference(original, feeds).compare(changed, result.watched)
    behind = feeds["attention_mask"][:, None, None, :] == 0
    tiny = np.finfo(np.float32).tiny
    for before, after in zip(found.before.values(), found.after.values(), strict=True):
        everywhere = np.broadcast_to(behind, before.shape)
        assert (before[everywhere] < tiny).all()
        assert (
            after[everywhere] < tiny
        ).mean() < 0.25  # the planted outliers drive some scores apart


def masked(low: Any, *, scale: float = 1.0, also: str | None = None) -> ir.Model:
    """softmax(scale · x + Where(x > 8, 0, low)), x the token ids; `also`: another reader."""
    toy = Toy(("batch", "tokens"))
    toy.x.name, toy.x.type = "input_ids", ir.TensorType(ir.DataType.INT64)
    x = toy.op("Cast", toy.x, to=int(ir.DataType.FLOAT))
    keep = toy.op("Less", x, toy.constant("nine", np.float32(9)), dtype=ir.DataType.BOOL)
    mask = toy.op("Where", keep, toy.constant("zero", np.float32(0)), toy.constant("low", low))
    scores = toy.op("Mul", x, toy.constant("scale", np.float32(scale)))
    probabilities = toy.op("Softmax", toy.op("Add", scores, mask), axis=-1, name="softmax")
    if also is not None:
        probabilities = toy.op("Add", probabilities, toy.op(also, mask))
    return toy.model(toy.op("Identity", probabilities))


@pytest.mark.parametrize("low", [LOWEST, np.float32(-1e4), np.float32(-np.inf)])
def test_mask_constants(low: np.float32) -> None:
    model = masked(low)
    assert lightened(model, TOY).modified
    (where,) = (node for node in model.graph if node.op_type == "Where")
    array = constant(where.inputs[2])
    assert array is not None
    assert array == np.float32(MASKED)


@pytest.mark.parametrize(("low", "also"), [(np.float32(-30), None), (LOWEST, "Abs")])
def test_a_bias_and_a_mask_with_another_reader_stay(low: np.float32, also: str | None) -> None:
    result = lightened(masked(low, also=also), TOY)
    assert not result.modified
    assert result.reason == "no constant that only masks scores of a softmax"


def test_a_mask_that_hides_a_token_of_a_full_row_stays() -> None:
    longer = replace(TOY, max_length=9)
    result = lightened(masked(LOWEST), longer)
    assert (result.modified, result.reason) == (False, "every mask hides more than padding")


def test_a_leak_is_measured_and_refused() -> None:
    """Scores of masked tokens far above the others': here −55 would not mask them."""
    original = masked(LOWEST, scale=5.0)
    changed = original.clone()
    result = lightened(changed, TOY)
    feeds = {"input_ids": np.array([[0, 0, 0, 10]] * 4)}
    verdict = LightenMasks(TOY).judge(
        result, Reference(original, feeds).compare(changed, result.watched)
    )
    assert not verdict.kept
    assert verdict.report["attention_mask"]["value"] is None
    assert verdict.report["attention_mask"]["largest_leak"] > LARGEST_LEAK
    assert "of the attention" in verdict.reason


def test_padded_feeds_are_padded_and_of_the_whole_vocabulary(bert: Source) -> None:
    model, structure = bert.graph()
    inputs = replace(bert.inputs(), max_length=32, pad_token_id=0)
    feeds = padded_feeds(model, inputs)
    assert tuple(feeds) == inputs.names
    assert {array.shape for array in feeds.values()} == {(6, 32)}
    lengths = feeds["attention_mask"].sum(1)
    assert lengths[0] == 32
    assert lengths[-1] == 4
    assert (feeds["input_ids"][feeds["attention_mask"] == 0] == 0).all()
    words = max(table.rows for table in structure.tables)
    assert words * 0.8 < feeds["input_ids"].max() < words


def test_a_window_of_attention_stays_and_the_mask_of_padding_does_not(
    source: Callable[[str], Source],
) -> None:
    """ModernBERT: one layer attends everywhere, one within a window."""
    where = source("modernbert")
    model, structure = where.graph()
    done = where.rewritten(model, plan_of(structure, {}), structure)
    constants = [node.inputs[2] for node in done.model.graph if node.op_type == "Where"]
    values = [float(array) for array in map(constant, constants) if array is not None]
    assert sorted(v for v in values if v < -1) == [float(LOWEST), MASKED]
    assert done.report["attention_mask"]["value"] == MASKED


def test_plan_json_says_what_was_done(engine: Callable[..., Built]) -> None:
    plan = read_json(engine("distilbert", strategy="w8a8").directory / "plan.json")
    assert plan["attention_mask"]["value"] == MASKED
    assert 0 < plan["attention_mask"]["largest_leak"] <= LARGEST_LEAK


def test_the_fp32_engine_is_the_exported_graph(bert: Source, engine: Callable[..., Built]) -> None:
    assert "attention_mask" not in read_json(engine(strategy="fp32").directory / "plan.json")
