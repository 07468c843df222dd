"""Costs by switching single roundings: against numpy, and on an encoder with a planted outlier."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from qdeploy.analyze.costs import Costs, SwitchedModel
from qdeploy.analyze.remedy import ENOUGH_DB, fewest_groups, grouped_steps
from qdeploy.calibrate.affine import affine_from_range, dequantize, quantize
from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.observe import observe
from qdeploy.calibrate.options import PlanOptions
from qdeploy.calibrate.sites import find_structure
from qdeploy.calibrate.structure import Structure
from tests.calibrate.encoder import OUTLIER, encoder, feeds
from tests.tolerances import PADDED_BATCH

BATCHES = [feeds(3, 9, pad_to=12), feeds(2, 5, seed=1)]


@pytest.fixture(scope="module")
def structure() -> Structure:
    return find_structure(encoder())


@pytest.fixture(scope="module")
def switched(structure: Structure) -> SwitchedModel:
    return SwitchedModel(encoder(), structure.sites, threads=1)


@pytest.fixture(scope="module")
def context(structure: Structure) -> Context:
    model = encoder()
    statistics = observe(model, structure, BATCHES, threads=1)
    return Context(structure, statistics, weights_of(model, structure), PlanOptions(scope="all"))


def steps_of(context: Context) -> dict[str, Any]:
    """One min-max scale per site."""
    found = {}
    for site in context.sites:
        seen = context.statistics[site.tensor]
        affine = context.affine((float(seen.minimum.min()), float(seen.maximum.max())))
        found[site.tensor] = (affine.scale, affine.zero_point)
    return found


def plain_logits(tmp_path: Any) -> list[Any]:
    import onnx_ir as ir

    ir.save(encoder(), tmp_path / "plain.onnx")
    session = ort.InferenceSession(tmp_path / "plain.onnx", providers=["CPUExecutionProvider"])
    return [session.run(None, dict(batch))[0] for batch in BATCHES]


def test_nothing_rounded_is_the_model_itself(switched: SwitchedModel, tmp_path: Any) -> None:
    for found, expected in zip(switched.logits(BATCHES, {}), plain_logits(tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, atol=PADDED_BATCH)


def test_one_site_is_rounded_as_the_reference_does(
    switched: SwitchedModel, structure: Structure, tmp_path: Any
) -> None:
    """The classifier's input: what comes behind it is one product."""
    import onnx_ir as ir

    model = encoder()
    values = {v.name: v for node in model.graph for v in node.outputs}
    model.graph.outputs.append(values["first"])
    ir.save(model, tmp_path / "first.onnx")
    session = ort.InferenceSession(tmp_path / "first.onnx", providers=["CPUExecutionProvider"])
    head = weights_of(model, structure)["classifier.weight"]
    affine = affine_from_range(-3.0, 50.0, "asymmetric")
    steps = {"first": (affine.scale, affine.zero_point)}
    for batch, found in zip(BATCHES, switched.logits(BATCHES, steps), strict=True):
        first = session.run(["first"], dict(batch))[0]
        codes = quantize(first, affine.scale, affine.zero_point)
        expected = dequantize(codes, affine.scale, affine.zero_point) @ head
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_scale_per_channel_takes_the_outlier_out(
    switched: SwitchedModel, context: Context
) -> None:
    costs = Costs(switched, BATCHES)
    site = context.structure.by_tensor["layer.0.norm1.out"]
    one, many = (costs.sqnr_db({site.tensor: grouped_steps(context, site, k)}) for k in (1, 2))
    assert many > one + 10
    assert grouped_steps(context, site, 2)[0][OUTLIER] > 3 * grouped_steps(context, site, 2)[0][0]


def test_costs_of_every_site(switched: SwitchedModel, context: Context) -> None:
    costs, every = Costs(switched, BATCHES), steps_of(context)
    ticks: list[tuple[int, int]] = []
    whole, found = costs.per_site(every, lambda _, done, total: ticks.append((done, total)))
    assert set(found) == set(every) and ticks[-1] == (len(every), len(every))
    # noises of several sites add up, give or take the luck of few rows
    assert whole == costs.sqnr_db(every) < min(cost.alone_db for cost in found.values()) + 3
    loud = min(found, key=lambda tensor: found[tensor].alone_db)
    assert "norm" in loud  # where the offset of 40 sits
    assert max(cost.gain_db for cost in found.values()) > 0


def test_the_fewest_groups_that_are_enough(switched: SwitchedModel, context: Context) -> None:
    costs = Costs(switched, BATCHES)
    site = context.structure.by_tensor["layer.0.norm1.out"]
    found = fewest_groups(context, site, costs)
    levels = list(found["sqnr_db"].values())
    assert found["groups"] == len(levels)
    assert levels[-1] >= ENOUGH_DB and all(level < ENOUGH_DB for level in levels[:-1])
