"""Reordered channels: the same outputs, and groups that lie side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import affine_from_range
from qdeploy.calibrate.plan import Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.passes.channel_sets import ChannelSets
from qdeploy.deploy.passes.equivalence import TOLERANCE, Reference
from qdeploy.deploy.passes.permute_channels import PermuteChannels, channel_order
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Site, Structure
from tests.deploy.conftest import Source
from tests.deploy.tolerances import PERMUTED
from tests.deploy.toys import plan_of, run
from tests.tiny import FAMILIES, HIDDEN, INNER

Array = npt.NDArray[Any]
WIDE = affine_from_range(-30.0, 30.0, "symmetric")
NARROW = affine_from_range(-8.0, 8.0, "symmetric")


def scattered(channels: int) -> Grouped:
    """Two groups that are not neighbours, and an outlier channel."""
    loud = tuple(sorted({5, 20 % channels, channels - 3}))  # ELECTRA's embeddings have 16 channels
    rest = tuple(c for c in range(channels) if c not in (*loud, 2))
    return Grouped((rest, loud), (NARROW, WIDE), (2,))


def grouped_inputs(structure: Structure) -> dict[str, Treatment]:
    """Every GEMM input with channels in groups."""
    inputs = {gemm.input for gemm in structure.gemms}
    sites = [s for s in structure.sites if s.tensor in inputs and s.channels > 8]
    return {site.tensor: scattered(site.channels) for site in sites}


def permuted(
    model: ir.Model, plan: Plan, structure: Structure
) -> tuple[Plan, dict[str, list[int]]]:
    """The pass alone, in place: the plan after it, and the orders."""
    result = PermuteChannels().apply(model, plan, structure)
    return result.plan, result.report["channel_orders"]


def inner_sites(structure: Structure) -> list[Site]:
    """Inputs of the second GEMM of each feed-forward block."""
    inputs = {gemm.input for gemm in structure.gemms if gemm.k == INNER}
    return [site for site in structure.sites if site.tensor in inputs]


@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_logits_stay(family: str, source: Callable[[str], Source], tmp_path: Path) -> None:
    """All free sets reordered at once, the residual stream among them where it is free."""
    where = source(family)
    model, structure = where.graph()
    feeds = where.feeds()
    (before,) = run(model.clone(), tmp_path / "before.onnx", feeds)
    plan = plan_of(structure, grouped_inputs(structure))
    _, orders = permuted(model, plan, structure)
    (after,) = run(model, tmp_path / "after.onnx", feeds)
    assert orders, "no set of channels is free"
    assert all(order != sorted(order) for order in orders.values())
    assert np.abs(after - before).max() <= PERMUTED


def same_codes_in_any_order(model: ir.Model, structure: Structure, share: int = 2) -> None:
    """Weights of which no pair widens a scale (`pair_peak`), whatever the order of their rows.

    A column has one positive weight, and negative ones of 1/`share` of it at most: half, or an
    eighth where factors of 0.5 to 2 make it a half.
    """
    for name in {gemm.weight for gemm in structure.gemms if not gemm.transposed}:
        weight = -np.abs(_array(model, name))
        columns = np.arange(weight.shape[1])
        weight[columns % len(weight), columns] = -share * weight.min(axis=0)
        model.graph.initializers[name].const_value = ir.Tensor(weight, name=name)


def agree_but_for_flips(found: Array, expected: Array) -> bool:
    """Whether a quarter of the rows [B, …] of the outputs is the same.

    Sums in another order may flip a rounding to 8 bits, which moves a row by a step. A channel in a
    wrong place moves all of them.
    """
    gaps = np.abs(found - expected).reshape(len(found), -1).max(axis=1)
    return bool(np.quantile(gaps, 0.25) <= 1e-3 * np.abs(expected).max())


def test_a_plan_and_its_permuted_form_give_the_same_logits(bert: Source, tmp_path: Path) -> None:
    model, structure = bert.graph()
    same_codes_in_any_order(model, structure)
    plan = plan_of(structure, grouped_inputs(structure))
    plain = lower_ort_cpu(model.clone(), plan, structure).model
    renamed, _ = permuted(model, plan, structure)
    assert renamed != plan
    folded = lower_ort_cpu(model, renamed, structure).model
    feeds = bert.feeds()
    (expected,) = run(plain, tmp_path / "plain.onnx", feeds)
    (found,) = run(folded, tmp_path / "folded.onnx", feeds)
    assert agree_but_for_flips(found, expected)
    # one set of channels in another order than the plan says
    wrong, _ = bert.graph()
    same_codes_in_any_order(wrong, structure)
    (mistaken,) = run(
        lower_ort_cpu(wrong, renamed, structure).model, tmp_path / "wrong.onnx", feeds
    )
    assert not agree_but_for_flips(mistaken, expected)


def test_groups_of_the_inner_set_become_runs_and_need_no_gather(bert: Source) -> None:
    model, structure = bert.graph()
    sites = inner_sites(structure)
    assert len(sites) == 2
    plan = plan_of(structure, {site.tensor: scattered(INNER) for site in sites})
    renamed, orders = permuted(model, plan, structure)
    assert list(orders) == [site.name for site in sites]
    for site in sites:
        treatment = renamed.treatment(site.tensor)
        assert isinstance(treatment, Grouped)
        for channels in (*treatment.groups, treatment.outlier_channels):
            assert list(channels) == list(range(channels[0], channels[-1] + 1))
    before = sum(node.op_type == "Gather" for node in model.graph)
    lowered = lower_ort_cpu(model, renamed, structure).model
    assert sum(node.op_type == "Gather" for node in lowered.graph) == before


def test_the_order_says_where_each_channel_came_from(bert: Source) -> None:
    model, structure = bert.graph()
    site = inner_sites(structure)[0]
    plan = plan_of(structure, {site.tensor: scattered(INNER)})
    (gemm,) = structure.consumers(site.tensor)
    before = _array(model, gemm.weight)
    renamed, orders = permuted(model, plan, structure)
    order = orders[site.name]
    assert sorted(order) == list(range(INNER))
    expected = before[:, order] if gemm.transposed else before[order]
    np.testing.assert_array_equal(_array(model, gemm.weight), expected)
    treatment = renamed.treatment(site.tensor)
    assert isinstance(treatment, Grouped)
    assert [order[c] for c in treatment.outlier_channels] == [2]


def _array(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_channels_that_attention_splits_into_heads_stay(bert: Source) -> None:
    """The context of the attention comes out of heads: its set is frozen, and so is Q's."""
    model, structure = bert.graph()
    sets = ChannelSets(model, structure)
    projections = [g for g in structure.gemms if g.name.endswith((".query", ".key", ".value"))]
    contexts = [g for g in structure.gemms if g.name.endswith("attention.output.dense")]
    assert len(projections) == 6 and len(contexts) == 2
    assert all(sets.free_set(gemm.output) is None for gemm in projections)
    assert all(sets.free_set(gemm.input) is None for gemm in contexts)
    frozen = {g.input: scattered(HIDDEN) for g in contexts}
    arrays = {name: _array(model, name).copy() for name in model.graph.initializers}
    plan = plan_of(structure, frozen)
    renamed, orders = permuted(model, plan, structure)
    assert (renamed, orders) == (plan, {})
    assert all(np.array_equal(_array(model, name), array) for name, array in arrays.items())


def test_the_residual_stream_is_one_free_set_in_a_bert(bert: Source) -> None:
    model, structure = bert.graph()
    sets = ChannelSets(model, structure)
    stream = {g.input for g in structure.gemms if g.name.endswith((".query", "intermediate.dense"))}
    roots = {sets.free_set(tensor) for tensor in stream}
    assert len(stream) == 4 and len(roots) == 1 and None not in roots
    assert sets.free_set(inner_sites(structure)[0].tensor) not in roots


def test_per_tensor_sites_of_a_moved_set_keep_their_prescale(bert: Source, tmp_path: Path) -> None:
    """Two sites share the residual stream: one grouped, the other with a factor per channel."""
    model, structure = bert.graph()
    same_codes_in_any_order(model, structure, share=8)
    first, second = (g.input for g in structure.gemms if g.name.endswith("intermediate.dense"))
    factors = tuple(float(v) for v in np.linspace(0.5, 2, HIDDEN).astype(np.float32))
    shift = tuple(float(v) for v in np.linspace(-1, 1, HIDDEN).astype(np.float32))
    scaled = PerTensor(WIDE, factors, shift)
    plan = plan_of(structure, {first: scattered(HIDDEN), second: scaled})
    plain = lower_ort_cpu(model.clone(), plan, structure).model
    renamed, orders = permuted(model, plan, structure)
    (order,) = orders.values()
    moved = renamed.treatment(second)
    assert isinstance(moved, PerTensor)
    assert list(moved.pre_quant_scale) == [factors[c] for c in order]
    assert list(moved.pre_quant_shift) == [shift[c] for c in order]
    folded = lower_ort_cpu(model, renamed, structure).model
    feeds = bert.feeds()
    (expected,) = run(plain, tmp_path / "plain.onnx", feeds)
    (found,) = run(folded, tmp_path / "folded.onnx", feeds)
    assert agree_but_for_flips(found, expected)


def test_channel_order_of_one_site_gives_runs() -> None:
    order = channel_order([Grouped(((0, 2, 4, 6), (1, 5)), (NARROW, WIDE), (3, 7))])
    kinds = ["group" if c in (0, 2, 4, 6) else "loud" if c in (1, 5) else "out" for c in order]
    assert sum(a != b for a, b in pairwise(kinds)) == 2


def test_channel_order_puts_first_what_most_sites_single_out() -> None:
    first = Grouped(((0, 1, 2, 3, 4, 6), (5, 7)), (NARROW, WIDE))
    second = Grouped(((0, 1, 2, 3, 4, 7), (5, 6)), (NARROW, WIDE))
    order = [int(c) for c in channel_order([first, second])]
    assert order[0] == 5
    assert set(order[1:3]) == {6, 7}


def test_a_comparison_sees_one_weight_out_of_order(bert: Source) -> None:
    model, structure = bert.graph()
    changed = model.clone()
    weight = changed.graph.initializers[structure.gemms[0].weight]
    weight.const_value = ir.Tensor(np.roll(_array(model, structure.gemms[0].weight), 1, axis=0))
    reference = Reference(model, bert.feeds())
    assert reference.compare(model.clone()).difference == 0
    found = reference.compare(changed)
    assert found.difference > TOLERANCE
    assert not found.within(None)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("scale", [0.01, 1, 1e5])
def test_bound_follows_the_size_of_the_outputs(
    family: str, scale: float, source: Callable[[str], Source]
) -> None:
    """At any scale a permutation agrees, and a weight off by 1e-3 of its size does not."""
    where = source(family)
    model, structure = where.graph()
    head = [node for node in model.graph if node.op_type == "Gemm"][-1]
    for value in head.inputs[1:]:
        assert value is not None
        array = (_array(model, str(value.name)) * scale).astype(np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
    changed = model.clone()
    _, orders = permuted(changed, plan_of(structure, grouped_inputs(structure)), structure)
    assert orders
    reference = Reference(model, where.feeds())
    found = reference.compare(changed)
    assert found.within(None)
    assert found.relative < 3e-5  # 1.1e-5 where sums have 8 terms (AVX2), less where they have 16
    assert (found.rounding is None) == (scale <= 1)
    for name in (str(head.inputs[1].name), structure.gemms[0].weight):  # type: ignore[union-attr]
        wrong = changed.clone()
        array = (_array(wrong, name) * 1.001).astype(np.float32)
        wrong.graph.initializers[name].const_value = ir.Tensor(array, name=name)
        assert not reference.compare(wrong).within(None)


def test_means_move_with_their_channels(bert: Source) -> None:
    model, structure = bert.graph()
    plan = plan_of(structure, grouped_inputs(structure))
    sites = {}
    for tensor, site in plan.sites.items():
        mean = np.arange(structure.by_tensor[tensor].channels, dtype=np.float64)
        sites[tensor] = replace(
            site, mean=tuple(map(float, mean)), covariance=np.add.outer(1000 * mean, mean)
        )
    moved, orders = permuted(model, replace(plan, sites=sites), structure)
    found = {tuple(map(int, site.mean)) for site in moved.sites.values()}
    assert orders and {tuple(order) for order in orders.values()} <= found
    for site in moved.sites.values():
        assert site.covariance is not None
        np.testing.assert_array_equal(
            site.covariance, np.add.outer(1000 * np.array(site.mean), site.mean)
        )


def test_structure_survives_a_permutation(bert: Source) -> None:
    """The plan names tensors and GEMMs; these must not move."""
    model, structure = bert.graph()
    plan = plan_of(structure, grouped_inputs(structure))
    permuted(model, plan, structure)
    assert find_structure(model) == structure
