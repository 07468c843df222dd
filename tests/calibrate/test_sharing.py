"""Sites whose GEMMs share weights: one treatment, one int8 copy, and each its own scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import affine_from_range
from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.options import PlanOptions
from qdeploy.calibrate.plan import Grouped, PerTensor, Plan
from qdeploy.calibrate.sharing import shared_sites
from qdeploy.calibrate.strategies import make_plan
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.sites import find_structure
from tests.deploy.product_graphs import Layer, model_of

Array = npt.NDArray[Any]
SIZES = (32, 256)
# The first, third and fourth product read the same weight, the second and last have their own.
WEIGHTS = (0, 1, 0, 0, 2)
SHARED = (0, 2, 3)


def context_of(hidden: int, **options: Any) -> tuple[ir.Model, Context]:
    """Five products; each input with a loud channel, louder in each layer and not the same one."""
    layers = [Layer("MatMul", "plain", "graph", weight) for weight in (3, *WEIGHTS)]
    proto = onnx.shape_inference.infer_shapes(model_of(layers, hidden))
    model = ir.serde.deserialize_model(proto)
    structure = find_structure(model)
    rng = np.random.default_rng(0)
    statistics = {}
    for index, site in enumerate(structure.sites):
        x = rng.normal(size=(64, hidden)).astype(np.float32)
        x[:, index % 4] *= 20 * (index + 1)
        statistics[site.tensor] = SiteStatistics.empty(hidden)
        statistics[site.tensor].update(x)

    chosen = PlanOptions(**options)
    return model, Context(structure, statistics, weights_of(model, structure), chosen)


def shared(plan: Plan, context: Context) -> list[Any]:
    tensors = [gemm.input for gemm in context.structure.gemms[1:]]
    return [plan.sites[tensors[at]] for at in SHARED]


def stored(model: ir.Model, plan: Plan, context: Context) -> int:
    lowered = lower_ort_cpu(model, plan, context.structure)
    return sum("weight_int8" in name for name in lowered.model.graph.initializers)


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("smoothquant", {}),
        ("smoothquant", {"alpha": 0.5}),
        ("peg", {"prescale": "everywhere"}),
        ("peg", {"prescale": "everywhere", "shift": True}),
        ("peg", {"groups": 2, "prescale": "none"}),
        ("peg", {"groups": 3, "outlier_channels": 2, "prescale": "none"}),
        ("w8a8", {}),
    ],
)
def test_one_int8_copy_serves_all_that_share_a_weight(
    strategy: str, options: dict[str, Any], hidden: int
) -> None:
    model, context = context_of(hidden, **options)
    plan = make_plan(strategy, context)
    sites = shared(plan, context)
    if strategy != "w8a8":
        assert all("as 3 sites share these weights" in site.reason for site in sites)
    treatments = [site.treatment for site in sites]
    if isinstance(treatments[0], Grouped):
        assert treatments[0] == treatments[1] == treatments[2]
        assert len(treatments[0].groups) == options["groups"]
    else:
        assert len({treatment.pre_quant_scale for treatment in treatments}) == 1
        for site, treatment in zip(sites, treatments, strict=True):
            assert isinstance(treatment, PerTensor)
            seen = context.statistics[site.tensor]
            factor: Array = np.array(treatment.pre_quant_scale or np.ones(hidden))
            shift: Array = np.array(treatment.pre_quant_shift or np.zeros(hidden))
            low, high = (
                ((seen.minimum - shift) * factor).min(),
                ((seen.maximum - shift) * factor).max(),
            )
            scheme = context.options.scheme
            assert treatment.affine == affine_from_range(float(low), float(high), scheme)
    parts = len(treatments[0].groups) if isinstance(treatments[0], Grouped) else 1
    assert stored(model, plan, context) <= parts * len(set(WEIGHTS))


@pytest.mark.parametrize("hidden", SIZES)
def test_groups_hold_the_loud_channels_of_every_layer(hidden: int) -> None:
    """Each layer has another loud channel: a group chosen from one would crush the others."""
    _, context = context_of(hidden, groups=2, prescale="none")
    site = shared(make_plan("peg", context), context)[0]
    small = min(site.treatment.groups, key=len)
    inputs = [gemm.input for gemm in context.structure.gemms[1:]]
    loud = {int(context.statistics[inputs[at]].absolute.argmax()) for at in SHARED}
    assert loud <= set(small)


def test_sites_without_common_weights_are_left_alone() -> None:
    _, context = context_of(32)
    (members,) = shared_sites(context)
    inputs = [gemm.input for gemm in context.structure.gemms[1:]]
    assert [site.tensor for site in members] == [inputs[at] for at in SHARED]
    alone = make_plan("peg", context).sites[inputs[1]]
    assert "share" not in alone.reason
