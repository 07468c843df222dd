"""Every pass keeps the contract of `Pass`, and the loop drops what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine, affine_from_range
from qdeploy.calibrate.plan import Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.passes.attention_mask import LightenMasks
from qdeploy.deploy.passes.base import Pass, PassResult
from qdeploy.deploy.passes.equivalence import ModelInputs, Reference, padded_feeds
from qdeploy.deploy.passes.fold_scales import FoldScales
from qdeploy.deploy.passes.permute_channels import PermuteChannels
from qdeploy.deploy.passes.pipeline import Rewritten, passes_for, run_passes
from qdeploy.deploy.passes.to_fp16 import ToFp16
from qdeploy.errors import VerificationError
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.conftest import Source
from tests.deploy.toys import plan_of
from tests.tiny import INNER

NARROW, WIDE = affine_from_range(-8, 8, "symmetric"), affine_from_range(-30, 30, "symmetric")
FAMILIES = ("distilbert", "modernbert")  # bare scores, and windows of attention with rotations


def a_plan(structure: Structure) -> Plan:
    """Groups of two sizes inside feed-forward blocks, scales in front of all other GEMMs."""
    rest = tuple(c for c in range(INNER) if c not in (2, 5, 7, 11))
    treatments: dict[str, Treatment] = {}
    rng = np.random.default_rng(0)
    for gemm in structure.gemms:
        factors = np.exp2(rng.uniform(-1, 1, gemm.k)).astype(np.float32)
        treatments[gemm.input] = PerTensor(Affine(0.1, 128), tuple(map(float, factors)))
        if gemm.k == INNER:
            treatments[gemm.input] = Grouped((rest, (5, 7, 11)), (NARROW, WIDE), (2,))
    return plan_of(structure, treatments)


@dataclass(frozen=True)
class Case:
    """A pass, and the families in which it has nothing to do."""

    make: Callable[[ModelInputs], Pass]
    idle: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.make(ModelInputs((), 1, 0)).name


CASES = (
    # the inner side of a gated block is split in two there, which freezes it
    Case(lambda inputs: PermuteChannels(), idle=("modernbert",)),
    # one projection makes query, key and value there: its columns are not the context's
    Case(lambda inputs: FoldScales(), idle=("modernbert",)),
    Case(LightenMasks),
    Case(lambda inputs: ToFp16()),
)


def content(model: ir.Model) -> dict[str, Any]:
    """All of a graph: nodes with inputs and attributes, types, and the bytes of each constant."""
    nodes = [
        (node.op_type, [v and v.name for v in node.inputs], str(dict(node.attributes)))
        for node in model.graph
    ]
    types = [(v.name, v.dtype) for node in model.graph for v in node.outputs]
    constants = {
        name: value.const_value.numpy().tobytes()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    return {"nodes": nodes, "types": types, "constants": constants}


def faces(model: ir.Model) -> list[tuple[Any, ...]]:
    """Inputs and outputs of a graph."""
    return [(v.name, v.dtype, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]


@dataclass(frozen=True)
class Applied:
    """A pass that went over a clone of a family's graph."""

    each: Pass
    idle: bool
    inputs: ModelInputs
    original: ir.Model
    before: dict[str, Any]
    plan: Plan
    structure: Structure
    model: ir.Model
    result: PassResult


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestContract:
    """What `Pass` promises, by the numbers of its docstring."""

    @pytest.fixture
    def applied(self, case: Case, family: str, source: Callable[[str], Source]) -> Applied:
        where = source(family)
        original, structure = where.graph()
        before = content(original)
        plan, each = a_plan(structure), case.make(where.inputs())
        model = original.clone()
        result = each.apply(model, plan, structure)
        return Applied(
            each=each,
            idle=family in case.idle,
            inputs=where.inputs(),
            original=original,
            before=before,
            plan=plan,
            structure=structure,
            model=model,
            result=result,
        )

    def test_it_has_something_to_do_and_says_why_not(self, applied: Applied) -> None:
        """Else the other tests would show nothing."""
        result = applied.result
        assert result.modified != applied.idle
        assert (result.reason != "") == applied.idle
        changed = content(applied.model) != applied.before or result.plan != applied.plan
        assert changed == result.modified

    def test_1_the_original_is_untouched(self, applied: Applied) -> None:
        assert content(applied.original) == applied.before

    def test_2_the_result_computes_the_same(self, applied: Applied) -> None:
        assert faces(applied.model) == faces(applied.original)
        reference = Reference(applied.original, padded_feeds(applied.original, applied.inputs))
        found = reference.compare(applied.model, applied.result.watched)
        verdict = applied.each.judge(applied.result, found)
        assert verdict.kept, verdict.reason
        assert verdict.reason == ""
        assert set(verdict.report) == set(applied.each.nothing)

    def test_3_the_structure_holds(self, applied: Applied) -> None:
        known = {v.name for node in applied.model.graph for v in node.outputs}
        known |= {v.name for v in applied.model.graph.inputs}
        assert {site.tensor for site in applied.structure.sites} <= known
        if applied.each.name != "to_fp16":
            assert find_structure(applied.model) == applied.structure

    def test_4_a_second_application_changes_nothing(self, applied: Applied) -> None:
        once = content(applied.model)
        again = applied.each.apply(applied.model, applied.result.plan, applied.structure)
        assert not again.modified
        assert again.reason
        assert again.plan == applied.result.plan
        assert content(applied.model) == once

    def test_the_report_is_json(self, applied: Applied) -> None:
        report = applied.result.report
        assert json.loads(json.dumps(report)) == report
        assert set(report) == set(applied.each.nothing)


def test_every_pass_is_in_the_table() -> None:
    """All that a build uses, and all that a lowering applies by itself."""
    inputs = ModelInputs((), 1, 0)
    made = {type(case.make(inputs)) for case in CASES}
    assert made == {*map(type, passes_for(inputs, fold=True)), ToFp16}
    assert made == {kind for kind in Pass.__subclasses__() if kind.__module__.startswith("qdeploy")}
    assert all(kind.__module__ == f"qdeploy.deploy.passes.{kind.name}" for kind in made)


@dataclass(frozen=True)
class Spoil(Pass):
    """A wrong pass: a weight becomes `scale` times what it was."""

    name = "spoil"
    action = "Spoiling a weight"
    nothing: ClassVar[dict[str, Any]] = {"spoiled": None}

    scale: float = 2.0

    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Another plan, too: it must not outlive the graph."""
        value = model.graph.initializers[structure.gemms[0].weight]
        assert value.const_value is not None
        array = value.const_value.numpy() * np.float32(self.scale)
        value.const_value = ir.Tensor(array, name=value.name)
        return PassResult(True, replace(plan, strategy="spoiled"), {"spoiled": self.scale})


class Needed(Spoil):
    """The same, where the plan counts on it."""

    required = True


class Tolerant(Spoil):
    """The same, where outputs may differ by as much as they are large."""

    tolerance = 1.0


@pytest.fixture
def distil(source: Callable[[str], Source]) -> Source:
    return source("distilbert")


def rewritten(where: Source, *extra: Pass, first: bool = True) -> Rewritten:
    """All passes of a build, with others before or behind them."""
    model, structure = where.graph()
    usual, inputs = passes_for(where.inputs(), fold=True), where.inputs()
    passes = (*extra, *usual) if first else (*usual, *extra)
    return run_passes(passes, model, a_plan(structure), structure, inputs)


@pytest.mark.parametrize("first", [True, False])
def test_a_wrong_pass_is_dropped_and_the_others_are_kept(distil: Source, first: bool) -> None:
    """None of the others is blamed, and nothing of the wrong one stays."""
    good, found = rewritten(distil), rewritten(distil, Spoil(), first=first)
    assert content(found.model) == content(good.model)
    assert found.plan == good.plan
    assert found.report == good.report | {"spoiled": None}
    result = found.results["spoil"]
    assert not result.modified
    assert result.reason.startswith("Spoiling a weight changed the FP32 outputs by ")
    assert all(found.results[name] == kept for name, kept in good.results.items())


def test_a_wrong_pass_that_the_plan_counts_on_is_an_error(distil: Source) -> None:
    with pytest.raises(VerificationError, match="changed the FP32 outputs by .* Report this with"):
        rewritten(distil, Needed())


def test_a_weight_that_is_no_number_is_no_agreement(distil: Source) -> None:
    assert not rewritten(distil, Spoil(float("nan"))).results["spoil"].modified


@pytest.mark.parametrize(("scale", "kept"), [(1 + 1e-3, True), (float("nan"), False)])
def test_a_pass_may_bring_its_own_tolerance(distil: Source, scale: float, kept: bool) -> None:
    model, structure = distil.graph()
    plan = a_plan(structure)
    found = run_passes((Tolerant(scale),), model, plan, structure, distil.inputs())
    assert (found.plan.strategy == "spoiled") == kept
    exact = run_passes((Spoil(scale),), model, plan, structure, distil.inputs())
    assert exact.plan == plan
    assert exact.model is model


def test_what_nothing_changes_is_not_run(distil: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Reference, changed: ir.Model, watched: tuple[str, ...] = ()) -> None:
        raise AssertionError("compared")

    monkeypatch.setattr(Reference, "compare", run)
    model, structure = distil.graph()
    plan = plan_of(structure, {})
    passes = (PermuteChannels(), FoldScales())
    found = run_passes(passes, model, plan, structure, distil.inputs())
    assert found.model is model
    assert found.report == {"channel_orders": {}, "folded_prescales": []}
    assert [bool(result.reason) for result in found.results.values()] == [True, True]


@pytest.mark.parametrize("wrong", [0, 1])
def test_all_passes_together_are_compared_once(
    wrong: int, distil: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one costs a run each, so only where something is wrong."""
    runs = []
    compare = Reference.compare

    def counted(self: Reference, changed: ir.Model, watched: tuple[str, ...] = ()) -> Any:
        runs.append(watched)
        return compare(self, changed, watched)

    monkeypatch.setattr(Reference, "compare", counted)
    rewritten(distil, *[Spoil()] * wrong)
    assert len(runs) == (5 if wrong else 1)


def test_outputs_of_two_shapes_are_infinitely_far_apart(distil: Source) -> None:
    model, _ = distil.graph()
    changed = model.clone()
    output = changed.graph.outputs[0]
    first = ir.node("ReduceMax", [output], {"keepdims": 1}, num_outputs=1)
    changed.graph.append(first)
    first.outputs[0].name, first.outputs[0].type = "one", output.type
    changed.graph.outputs[0] = first.outputs[0]
    found = Reference(model, padded_feeds(model, distil.inputs())).compare(changed)
    assert found.difference == found.relative == np.inf
    assert not found.within(1e9)
