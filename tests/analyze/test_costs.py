"""Costs of single sites: as whole-model runs give them, and with a planted outlier channel."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.analyze import costs as costs_module
from qdeploy.analyze.costs import Costs
from qdeploy.analyze.remedy import ENOUGH_DB, MOST_GROUPS, fewest_groups, grouped
from qdeploy.analyze.rounding import Rounding, roundings_of
from qdeploy.analyze.segments import SegmentedModel
from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.observe import observe
from qdeploy.calibrate.options import CalibrationOptions, PlanOptions
from qdeploy.calibrate.run import calibrate_model, calibration_batches
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import make_plan
from qdeploy.errors import QDeployWarning
from qdeploy.graph.sites import find_structure
from qdeploy.head import SEQUENCES, Head
from tests.analyze.switched import sqnr_db, whole_run
from tests.calibrate.encoder import OUTLIER, encoder, feeds
from tests.exports import Exports
from tests.tolerances import PADDED_BATCH

BATCHES = [feeds(3, 9, pad_to=12), feeds(2, 5, seed=1), feeds(4, 7, seed=2)]
HEAD = Head(SEQUENCES, ("a", "b"))
# Rounding meets float noise at the border of two codes; of a whole run a few codes differ.
CLOSE_DB = 0.2


def context_of(model: ir.Model, batches: list[Any], scope: str) -> Context:
    structure = find_structure(model)
    statistics = observe(model, structure, batches, threads=1)
    return Context(structure, statistics, weights_of(model, structure), PlanOptions(scope=scope))


def every_site(context: Context) -> dict[str, Rounding]:
    """One scale per site."""
    channels = {site.tensor: site.channels for site in context.sites}
    return roundings_of(make_plan("w8a8", context), channels)


def costs_of(model: ir.Model, context: Context, batches: list[Any], **more: Any) -> Costs:
    scope = context.options.scope
    segmented = SegmentedModel(model, context.structure)
    return Costs(segmented, batches, HEAD, every_site(context), everywhere=scope == "all", **more)


def check_against_whole_runs(
    model: ir.Model, batches: list[Any], scope: str, folder: Path, step: int = 1
) -> None:
    """Every `step`-th site: alone, and left out, here and by runs of the whole model."""
    context = context_of(model, batches, scope)
    every = every_site(context)
    costs = costs_of(model, context, batches)

    run = partial(whole_run, model, context.structure, batches, folder=folder)
    plain = run({}, everywhere=False)

    def reference(rounded: dict[str, Rounding]) -> float:
        return sqnr_db(plain, run(rounded, everywhere=scope == "all"))

    assert costs.whole.sqnr_db == pytest.approx(reference(every), abs=CLOSE_DB)
    for tensor in list(every)[::step]:
        alone, rest = costs.alone(tensor, every[tensor]), costs.without(tensor)
        assert alone.sqnr_db == pytest.approx(reference({tensor: every[tensor]}), abs=CLOSE_DB)
        others = {name: how for name, how in every.items() if name != tensor}
        assert rest.sqnr_db == pytest.approx(reference(others), abs=CLOSE_DB), tensor


@pytest.mark.parametrize("scope", ["gemm", "all"])
@pytest.mark.parametrize("layers", [2, 4])
def test_costs_are_those_of_whole_runs(layers: int, scope: str, tmp_path: Path) -> None:
    step = 1 if scope == "gemm" else 2 * layers - 1
    check_against_whole_runs(encoder(layers=layers), BATCHES, scope, tmp_path, step)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "deberta-v2", "modernbert"])
def test_costs_of_real_families(family: str, exported: Exports, tmp_path: Path) -> None:
    directory = shutil.copytree(exported(family).model_dir, tmp_path / "model")
    with pytest.warns(QDeployWarning, match="qnli-mini"):
        origin = Statistics.load(calibrate_model(directory, calibration_rows=6)).origin
    batches = list(calibration_batches(directory, origin, CalibrationOptions(), 6))
    check_against_whole_runs(load_model(directory)[0], batches, "all", tmp_path, step=7)


@pytest.fixture(scope="module")
def context() -> Context:
    return context_of(encoder(), BATCHES, "all")


@pytest.fixture(scope="module")
def costs(context: Context) -> Costs:
    return costs_of(encoder(), context, BATCHES)


def test_nothing_rounded_is_the_model_itself(context: Context, tmp_path: Path) -> None:
    segmented = SegmentedModel(encoder(), context.structure)
    plain = whole_run(encoder(), context.structure, BATCHES, {}, tmp_path, everywhere=True)
    for batch, expected in zip(BATCHES, plain, strict=True):
        np.testing.assert_allclose(segmented.run(batch, {})[0], expected, atol=PADDED_BATCH)


def test_a_run_goes_on_from_any_cut(context: Context) -> None:
    segmented = SegmentedModel(encoder(), context.structure)
    cuts = tuple(range(1, len(segmented.cut_of) + 1))
    whole, kept = segmented.run(BATCHES[0], {}, keep=cuts)
    assert set(kept) == set(cuts)
    for cut, state in kept.items():
        np.testing.assert_array_equal(
            segmented.run({"attention_mask": BATCHES[0]["attention_mask"]}, {}, start=cut,
                          state=state)[0], whole,
        )  # fmt: skip
    narrow = segmented.narrow_cuts
    hidden = {len(kept[cut]) for cut in narrow}
    assert len(narrow) <= len(cuts) / 2 and max(hidden) <= 2  # a stream, and the mask


def test_less_is_kept_where_memory_is_short(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = every_site(context)
    plenty = costs_of(encoder(), context, BATCHES)
    monkeypatch.setattr(costs_module, "_KEPT_BYTES", 1)
    short = costs_of(encoder(), context, BATCHES)
    assert len(short._cuts) == 1 < len(plenty._cuts)
    for tensor in every:
        assert short.without(tensor) == plenty.without(tensor)
        assert short.alone(tensor, every[tensor]) == plenty.alone(tensor, every[tensor])


def test_the_planted_outlier_costs_most(costs: Costs, context: Context) -> None:
    every = every_site(context)
    found = {tensor: costs.alone(tensor, how).sqnr_db for tensor, how in every.items()}
    loud = min(found, key=found.__getitem__)  # where the offset of 40 sits
    assert "norm" in loud or loud == "first"
    # noises of several sites add up, give or take the luck of few rows
    assert costs.whole.sqnr_db < min(found.values()) + 3
    assert max(costs.without(t).sqnr_db for t in every) > costs.whole.sqnr_db


def test_a_scale_per_channel_takes_the_outlier_out(costs: Costs, context: Context) -> None:
    site = context.structure.by_tensor["layer.0.norm1.out"]
    one, two = (grouped(context, site, k) for k in (1, 2))
    assert costs.alone(site.tensor, two).sqnr_db > costs.alone(site.tensor, one).sqnr_db + 10
    assert two.scale[OUTLIER] > 3 * two.scale[0]


def measured_levels(levels: dict[int, float]) -> tuple[Callable[[Rounding], float], list[int]]:
    """A measurement that knows each K's answer, and what it was asked."""
    asked: list[int] = []

    def measure(rounding: Rounding) -> float:
        k = len(np.unique(rounding.scale))
        asked.append(k)
        return levels[k]

    return measure, asked


@pytest.mark.parametrize("fewest", [1, 2, 3, 5, 8, None])
def test_the_fewest_groups_are_found_wherever_the_search_begins(
    fewest: int | None, context: Context
) -> None:
    site = context.structure.by_tensor["layer.0.gelu"]
    enough = MOST_GROUPS + 1 if fewest is None else fewest
    levels = {k: ENOUGH_DB + (1 if k >= enough else -1) for k in range(1, MOST_GROUPS + 1)}
    for alone_db in (levels[1], levels[1] - 15 if levels[1] < ENOUGH_DB else levels[1]):
        measure, asked = measured_levels(levels)
        found = fewest_groups(context, site, alone_db, measure)
        assert found["groups"] == fewest
        assert len(set(asked)) == len(asked) and 1 not in asked  # nothing twice
        known = {int(k): level for k, level in found["sqnr_db"].items()}
        if fewest is not None and fewest > 1:
            assert known[fewest] >= ENOUGH_DB > known[fewest - 1]


def test_sites_are_measured_in_the_order_that_was_asked(costs: Costs) -> None:
    seen: list[str] = []
    ticks: list[tuple[str, int, int]] = []

    def measure(tensor: str) -> str:
        seen.append(tensor)
        return tensor.upper()

    one = costs_with(costs, threads=1)
    found = one.each(["c", "a", "b"], measure, "stage", lambda *tick: ticks.append(tick))
    assert seen == ["c", "a", "b"] and found == {"c": "C", "a": "A", "b": "B"}
    assert ticks[-1] == ("stage", 3, 3)


def costs_with(costs: Costs, *, threads: int) -> Costs:
    """The same measurements with another number of threads."""
    other = object.__new__(Costs)
    other.__dict__.update(costs.__dict__ | {"_threads": threads})
    return other


def test_no_site_is_begun_when_time_is_over(context: Context) -> None:
    over = costs_of(encoder(), context, BATCHES, seconds=0.0)
    assert over.each(["a"], lambda tensor: tensor, "stage") == {}
    assert over.whole.sqnr_db < 200  # whole plans are measured all the same


def test_what_was_done_in_time_stays(costs: Costs) -> None:
    one = costs_with(costs, threads=1)
    one._end = math.inf

    def measure(tensor: str) -> str:
        one._end = time.monotonic() - 1
        return tensor

    assert one.each(["a", "b"], measure, "stage") == {"a": "a"}


def test_an_error_ends_what_has_not_begun(costs: Costs) -> None:
    one, seen = costs_with(costs, threads=1), list[str]()

    def measure(tensor: str) -> str:
        seen.append(tensor)
        raise ValueError(tensor)

    with pytest.raises(ValueError, match="a"):
        one.each([*"abcdefghijklmnop"], measure, "stage")
    assert len(seen) < 16
