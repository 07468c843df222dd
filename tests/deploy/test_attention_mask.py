"""Attention masks at a lighter value: the same probabilities, and refused where they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy.passes.attention_mask import (
    LARGEST_LEAK,
    MASKED,
    leak,
    lighten_masks,
    softmax_outputs,
)
from qdeploy.deploy.passes.equivalence import TOLERANCE, compare, padded_feeds
from qdeploy.deploy.passes.pipeline import rewrite
from qdeploy.files.artifact import read_json
from qdeploy.graph.sites import constant
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import Toy, plan_of
from tests.tiny import FAMILIES, LAYERS

LOWEST = np.float32(np.finfo(np.float32).min)


def padded(where: Source) -> dict[str, Any]:
    model, _ = where.graph()
    names = [str(value.name) for value in model.graph.inputs]
    return padded_feeds(model, names, max_length=32, pad_token_id=0)


SMALL_SCORES = tuple(f for f in FAMILIES if f != "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_outputs(family: str, source: Callable[[str], Source]) -> None:
    """The planted outliers drive BERT's scores so high that its mask has to stay."""
    where = source(family)
    original, structure = where.graph()
    changed = original.clone()
    plan = plan_of(structure, {})
    _, report = rewrite(changed, plan, structure, where.manifest(), fold=True)
    found = compare(original, changed, padded(where), softmax_outputs(changed))
    assert len(found.after) == LAYERS
    assert found.difference < TOLERANCE
    assert leak(found.before, found.after) <= LARGEST_LEAK
    expected = MASKED if family in SMALL_SCORES else None
    assert report["attention_mask"]["value"] == expected
    assert (report["attention_mask"]["largest_leak"] <= LARGEST_LEAK) == (expected is not None)


def test_denormals_are_gone(source: Callable[[str], Source]) -> None:
    where = source("mpnet")
    original, _ = where.graph()
    changed = original.clone()
    lighten_masks(changed)
    feeds = padded(where)
    found = compare(original, changed, feeds, softmax_outputs(changed))
    behind = feeds["attention_mask"][:, None, None, :] == 0
    tiny = np.finfo(np.float32).tiny
    for before, after in zip(found.before, found.after, strict=True):
        everywhere = np.broadcast_to(behind, before.shape)
        assert (before[everywhere] < tiny).all()
        assert (
            after[everywhere] < tiny
        ).mean() < 0.25  # the planted outliers drive some scores apart


def masked(low: Any, *, scale: float = 1.0, also: str | None = None) -> ir.Model:
    """softmax(scale · x + Where(x > 9, 0, low)) over [4, 4]; `also`: another reader of the mask."""
    toy = Toy((4, 4))
    keep = toy.op("Less", toy.x, toy.constant("nine", np.float32(9)), dtype=ir.DataType.BOOL)
    mask = toy.op("Where", keep, toy.constant("zero", np.float32(0)), toy.constant("low", low))
    scores = toy.op("Mul", toy.x, toy.constant("scale", np.float32(scale)))
    probabilities = toy.op("Softmax", toy.op("Add", scores, mask), axis=-1, name="softmax")
    if also is not None:
        probabilities = toy.op("Add", probabilities, toy.op(also, mask))
    return toy.model(toy.op("Identity", probabilities))


@pytest.mark.parametrize("low", [LOWEST, np.float32(-1e4), np.float32(-np.inf)])
def test_mask_constants(low: np.float32) -> None:
    (change,) = lighten_masks(masked(low))
    array = constant(change.node.inputs[change.index])
    assert array is not None
    assert array == np.float32(MASKED)


def test_a_bias_is_no_mask() -> None:
    assert not lighten_masks(masked(np.float32(-30)))


def test_a_mask_with_another_reader_stays() -> None:
    assert not lighten_masks(masked(LOWEST, also="Abs"))


def test_a_leak_is_measured_and_undone() -> None:
    """Scores of masked tokens far above the others': here −55 would not mask them."""
    original = masked(LOWEST, scale=5.0)
    changed = original.clone()
    changes = lighten_masks(changed)
    feeds = {"x": np.array([[0, 0, 0, 10]] * 4, np.float32)}
    found = compare(original, changed, feeds, softmax_outputs(changed))
    assert leak(found.before, found.after) > LARGEST_LEAK
    for change in changes:
        change.undo()
    assert compare(original, changed, feeds).difference == 0


def test_padded_feeds_are_padded_and_of_the_whole_vocabulary(bert: Source) -> None:
    model, structure = bert.graph()
    names = [str(value.name) for value in model.graph.inputs]
    feeds = padded_feeds(model, names, max_length=32, pad_token_id=0)
    assert list(feeds) == names
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
    changes = lighten_masks(model.clone())
    assert len(changes) == 2
    _, report = rewrite(model, plan_of(structure, {}), structure, where.manifest(), fold=True)
    constants = [node.inputs[2] for node in model.graph if node.op_type == "Where"]
    values = [float(array) for array in map(constant, constants) if array is not None]
    assert sorted(v for v in values if v < -1) == [float(LOWEST), MASKED]
    assert report["attention_mask"]["value"] == MASKED


def test_plan_json_says_what_was_done(engine: Callable[..., Built]) -> None:
    plan = read_json(engine("distilbert", strategy="w8a8").directory / "plan.json")
    assert plan["attention_mask"]["value"] == MASKED
    assert 0 < plan["attention_mask"]["largest_leak"] <= LARGEST_LEAK


def test_the_fp32_engine_is_the_exported_graph(bert: Source, engine: Callable[..., Built]) -> None:
    assert "attention_mask" not in read_json(engine(strategy="fp32").directory / "plan.json")
