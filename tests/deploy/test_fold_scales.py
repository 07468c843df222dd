"""Factors that become part of the value's weight: the graph computes what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.deploy.passes.equivalence import TOLERANCE, Reference
from qdeploy.deploy.passes.fold_scales import FoldScales
from qdeploy.files.artifact import read_json
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import plan_of
from tests.tiny import FAMILIES, LAYERS

Array = npt.NDArray[Any]


def with_pre_quant_scales(structure: Structure, **options: Any) -> Plan:
    """Factors from a half to two in front of the input of every GEMM."""
    rng = np.random.default_rng(0)
    treatments = {}
    for gemm in structure.gemms:
        factors = tuple(float(f) for f in np.exp2(rng.uniform(-1, 1, gemm.k)).astype(np.float32))
        treatments[gemm.input] = PerTensor(Affine(0.1, 128), factors)
    return plan_of(structure, treatments, **options)


def array_of(model: ir.Model, name: str) -> Array:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy().copy()


def test_means_go_with_the_factors(bert: Source) -> None:
    """What corrects a bias is the mean of what the GEMM then reads."""
    model, structure = bert.graph()
    plan = with_pre_quant_scales(structure)
    sites = {}
    for tensor, site in plan.sites.items():
        channels = structure.by_tensor[tensor].channels
        sites[tensor] = replace(
            site, mean=(2.0,) * channels, covariance=4 * np.ones((channels, channels))
        )
    folded = FoldScales().apply(model, replace(plan, sites=sites), structure)
    for tensor, site in folded.plan.sites.items():
        before = plan.treatment(tensor)
        assert isinstance(before, PerTensor)
        factors = before.pre_quant_scale if tensor in structure.linear_sources else ()
        expected = 2 * np.array(factors) if factors else 2.0
        np.testing.assert_allclose(site.mean, expected)
        assert site.covariance is not None
        np.testing.assert_allclose(site.covariance, np.outer(site.mean, site.mean))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_context_comes_from_the_values_and_takes_its_factors_from_them(
    family: str, source: Callable[[str], Source]
) -> None:
    where = source(family)
    model, structure = where.graph()
    sources = structure.linear_sources
    # one projection makes query, key and value there: its columns are not the context's
    assert len(sources) == (0 if family == "modernbert" else LAYERS)
    original, plan = model.clone(), with_pre_quant_scales(structure)
    folded = FoldScales().apply(model, plan, structure)
    assert set(folded.report["folded_prescales"]) == {plan.sites[tensor].name for tensor in sources}
    for tensor in plan.sites:
        treatment = folded.plan.treatment(tensor)
        assert isinstance(treatment, PerTensor)
        assert bool(treatment.pre_quant_scale) == (tensor not in sources)
    weights = [g.weight for g in structure.gemms if g.name in sources.values()]
    for name in weights:
        assert not np.allclose(array_of(model, name), array_of(original, name), rtol=0.1)
    assert Reference(original, where.feeds()).compare(model).difference < TOLERANCE


def test_heads_in_another_order_are_found_out(bert: Source) -> None:
    """The context's channels are reversed before the GEMM: no structure tells, the numbers do."""
    model, structure = bert.graph()
    for tensor in structure.linear_sources:
        (reshape,) = [n for n in model.graph if n.outputs[0].name == tensor]
        transpose = reshape.inputs[0].producer()  # type: ignore[union-attr]
        assert transpose is not None and transpose.op_type == "Transpose"
        assert list(transpose.attributes["perm"].value) == [0, 2, 1, 3]
        transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 2, 3, 1])
    plan = with_pre_quant_scales(structure)
    done = bert.rewritten(model, plan, structure)
    assert done.report["folded_prescales"] == []
    assert done.results["fold_scales"].reason.startswith("Folding pre-quantization scales changed")
    assert done.plan.sites == plan.sites
    plain, kept = bert.graph()
    done = bert.rewritten(plain, plan, kept)
    assert len(done.report["folded_prescales"]) == LAYERS


@pytest.mark.parametrize("case", ["weight read twice", "one scale per weight", "not asked for"])
def test_what_would_change_anything_else_stays(case: str, bert: Source) -> None:
    model, structure = bert.graph()
    plan = with_pre_quant_scales(structure, per_channel_weights=case != "one scale per weight")
    if case == "weight read twice":
        gemms = {gemm.name: gemm for gemm in structure.gemms}
        for name in structure.linear_sources.values():
            weight = model.graph.initializers[gemms[name].weight]
            other = ir.node("Neg", [weight])
            model.graph.append(other)
            model.graph.outputs.append(other.outputs[0])
    if case == "not asked for":
        done = bert.rewritten(model, plan, structure, fold=False)
        assert (done.plan.sites, done.report["folded_prescales"]) == (plan.sites, [])
        assert done.results["fold_scales"].reason == "the target multiplies for nothing"
        return
    folded = FoldScales().apply(model, plan, structure)
    assert not folded.modified
    assert folded.reason
    assert (folded.report, folded.plan) == ({"folded_prescales": []}, plan)


@pytest.mark.parametrize(("target", "folds"), [("ort-cpu", LAYERS), ("openvino", 0)])
def test_plan_json_names_what_was_folded(
    target: str, folds: int, engine: Callable[..., Built]
) -> None:
    """OpenVINO multiplies for nothing, so there the factors stay where they are."""
    if target == "openvino":
        pytest.importorskip("openvino")
    built = engine("distilbert", strategy="smoothquant", target=target)
    plan = read_json(built.directory / "plan.json")
    assert len(plan["folded_prescales"]) == folds
    assert set(plan["folded_prescales"]) <= {site["name"] for site in plan["sites"]}
    assert built.report["int8"]["executed"] == built.report["int8"]["planned"]
