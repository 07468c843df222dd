"""What the lowering of every target has to keep: one contract, run by a subclass per target.

A subclass states how its graphs are run, how near they come to the numpy definition, and what the
target cannot express (`test_lowering_contract.py`). What only one target does has its own tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import MIDDLE
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.rules import ERROR
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import TargetError
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from tests.deploy.layer import numpy_layer, one_layer, scale_of_two, seen_by_layer
from tests.deploy.seen import AS_PLANNED
from tests.deploy.tolerances import TIES
from tests.deploy.toys import fake_quantize, plan_of, rounded_weight
from tests.deploy.treated_gemm import (
    BIAS,
    DYNAMIC,
    FACTORS,
    ROUGH,
    SIGNS,
    TREATMENTS,
    K,
    N,
    X,
    affine,
    one_gemm,
    reference,
    rounded_input,
    two_gemms,
)

Array = npt.NDArray[Any]


def share_that_differs(found: Array, expected: Array, tolerance: float) -> float:
    """Share of the outputs that are further apart than `tolerance` of the largest one."""
    assert found.shape == expected.shape
    return float((np.abs(found - expected) > tolerance * np.abs(expected).max()).mean())


def weights_of(model: ir.Model) -> dict[str, Array]:
    """Copies of the initializers by name."""
    found = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {name: tensor.numpy().copy() for name, tensor in found.items() if tensor is not None}


class LoweringContract(ABC):
    """What holds for the lowering of every target.

    1. A planned GEMM, and a layer of them, compute the numpy definition within the tolerance.
    2. What is traced stands in the graph: an int8 weight, and the node that multiplies by it.
    3. What the target cannot express is refused, and never lowered otherwise.
    4. A GEMM that the plan leaves in float keeps its node and its weight.
    5. GEMMs that share a weight share what is stored of it.
    6. A bias is added once, less what the rounding of the weights adds on average.
    7. Inputs and outputs keep their names, types and shapes.
    8. Plan, structure and the arrays of the model are as they were (the graph itself is consumed).
    9. On targets of processors, pairs of int8 weights fit the 16 bits that those without VNNI have.

    Attributes:
        target: as in the registry.
        product: operator that multiplies codes.
        fits_16_bits: whether 9. holds.
        tolerance: of a GEMM's outputs, relative to the largest.
        layer_tolerance: the same of a layer's; `TIES` of its outputs may be further away.
        cannot: words of the error, by words of the treatment's name.
        never: operators that a planned GEMM does not leave in the graph.
        wrong: why a runtime computes a right graph wrongly, by treatment and form of the GEMM.
        cuts: in which pieces it multiplies, as far as they change the rounding.
    """

    target: ClassVar[str]
    product: ClassVar[str]
    fits_16_bits: ClassVar[bool] = False
    tolerance: ClassVar[float]
    layer_tolerance: ClassVar[float]
    cannot: ClassVar[dict[str, str]] = {}
    never: ClassVar[frozenset[str]] = frozenset()
    wrong: ClassVar[dict[tuple[str, str], str]] = {}
    cuts: ClassVar[GemmConstraints] = AS_PLANNED

    @abstractmethod
    def outputs(self, model: ir.Model, path: Path, x: Array) -> list[Array]:
        """y of a lowered graph, once per way in which the target's graphs can be run here."""

    def check_kernels(self, lowered: Lowered, plan: Plan, structure: Structure, path: Path) -> None:
        """Nothing, unless the target's kernels can be seen here; the graph stands in `path`."""
        del lowered, plan, structure, path

    def plan(self, structure: Structure, treatments: dict[str, Treatment], **options: Any) -> Plan:
        """A plan as the target takes it."""
        target = TARGETS[self.target]
        plan = replace(plan_of(structure, treatments, **options), activations=target.activations)
        if any(number != MIDDLE for t in treatments.values() for number in _zero_points(t)):
            plan = replace(plan, activations="asymmetric")
        return target.fit(plan, structure)

    def lower(self, model: ir.Model, plan: Plan, structure: Structure) -> Lowered:
        """The lowered graph, held against the target's rules."""
        target = TARGETS[self.target]
        lowered = target.lower(model, plan, structure, tokens=1)
        broken = [found for found in target.broken_rules(lowered.model) if found.severity == ERROR]
        assert broken == []
        return lowered

    def refusal(self, name: str) -> str | None:
        """The words with which a treatment is refused; None where it is not."""
        return next((text for word, text in self.cannot.items() if word in name), None)

    def expressed(self) -> dict[str, Treatment]:
        """The treatments that the target has."""
        return {n: t for n, t in TREATMENTS.items() if self.refusal(n) is None}

    @pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
    @pytest.mark.parametrize("name", TREATMENTS)
    def test_a_gemm_is_the_rounded_input_times_the_weight(
        self, name: str, per_channel: bool, tmp_path: Path
    ) -> None:
        treatment, weight = TREATMENTS[name], SIGNS
        if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
            weight = SIGNS * FACTORS[:, None]
        model = one_gemm(weight)
        structure = find_structure(model)
        treatments = {g.input: treatment for g in structure.gemms}
        options = {"per_channel_weights": per_channel}
        if (text := self.refusal(name)) is not None:
            with pytest.raises(TargetError, match=text):
                self.lower(model, self.plan(structure, treatments, **options), structure)
            return
        plan = self.plan(structure, treatments, **options)
        lowered = self.lower(model, plan, structure)
        self.check_traced(lowered, "gemm")
        assert not self.never & {node.op_type for node in lowered.model.graph}
        expected, path = reference(-X, weight, treatment, self.cuts), tmp_path / "model.onnx"
        for found in self.outputs(lowered.model, path, X):
            if getattr(treatment, "pre_quant_shift", ()) and TARGETS[self.target].on_gpu:
                # FP16 rounds a sum, and so may a code: still much nearer to the definition
                exact = -X @ weight + BIAS
                error, noise = np.abs(found - expected).mean(), np.abs(exact - expected).mean()
                assert error < noise / 4
                continue
            assert share_that_differs(found, expected, self.tolerance) == 0
        self.check_kernels(lowered, plan, structure, path)

    def check_traced(self, lowered: Lowered, gemm: str) -> None:
        """Every trace name is of an int8 weight, and of a product that reads it."""
        trace_names = lowered.trace_names[gemm]
        nodes = {str(node.name): node for node in lowered.model.graph}
        assert trace_names
        for trace_name in trace_names:
            assert nodes[trace_name.node].op_type == self.product
            assert lowered.model.graph.initializers[trace_name.weight].dtype == ir.DataType.INT8
        products = [n for n in nodes.values() if n.op_type == self.product]
        floats = lowered.float_products.get(gemm, ())
        assert {str(n.name) for n in products} - set(floats) == {
            trace_name.node for trace_name in trace_names
        }

    @pytest.mark.parametrize("form", ["MatMul", "Gemm", "Gemm, transB"])
    @pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
    def test_weights_are_rounded_as_defined(
        self, form: str, per_channel: bool, tmp_path: Path
    ) -> None:
        treatment, x = TREATMENTS["per tensor"], X if form == "MatMul" else X[0]
        model = one_gemm(ROUGH, form=form)
        structure = find_structure(model)
        treatments = {g.input: treatment for g in structure.gemms}
        plan = self.plan(structure, treatments, per_channel_weights=per_channel)
        lowered = self.lower(model, plan, structure)
        rounded = rounded_weight(ROUGH, per_channel=per_channel, fits_16_bits=self.fits_16_bits)
        for found in self.outputs(lowered.model, tmp_path / "model.onnx", x):
            expected = reference(-x, rounded, treatment)
            assert share_that_differs(found, expected, self.tolerance) == 0
            exact = reference(-x, ROUGH, treatment)
            assert np.abs(found - expected).mean() < np.abs(found - exact).mean() / 4

    @pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
    def test_pairs_of_weights_fit_16_bits(self, per_channel: bool) -> None:
        if not self.fits_16_bits:
            return
        for treatment in self.expressed().values():
            model = one_gemm(np.abs(ROUGH) * np.sign(ROUGH[:1]))  # all of a column of one sign
            structure = find_structure(model)
            treatments = {g.input: treatment for g in structure.gemms}
            plan = self.plan(structure, treatments, per_channel_weights=per_channel)
            lowered = self.lower(model, plan, structure)
            arrays = weights_of(lowered.model)
            for name in lowered.trace_names["gemm"]:
                codes = arrays[name.weight].astype(np.int32)
                pairs = np.pad(codes, ((0, len(codes) % 2), (0, 0))).reshape(-1, 2, N).sum(axis=1)
                assert 255 * np.abs(pairs).max() <= 2**15 - 1

    @pytest.mark.parametrize("form", ["per tensor", "grouped", "outliers"])
    def test_a_layer_is_its_fake_quantized_reference(self, form: str, tmp_path: Path) -> None:
        model, arrays = one_layer()
        structure = find_structure(model)
        seen = seen_by_layer(arrays)
        treatments = {g.input: scale_of_two(seen[g.input], form) for g in structure.gemms}
        plan = self.plan(structure, treatments)
        lowered = self.lower(model, plan, structure)
        assert set(lowered.trace_names) == {"first", "second", "head"}

        def fake(name: str, value: Array) -> Array:
            return (
                fake_quantize(value, treatments[name], self.cuts) if name in treatments else value
            )

        # in scope gemm the residual sum reads the tensor as it was before the GEMM's rounding
        expected = numpy_layer(X, arrays, fake, skip_too=False)
        path = tmp_path / "model.onnx"
        for found in self.outputs(lowered.model, path, X):
            assert share_that_differs(found, expected, self.layer_tolerance) <= TIES
        self.check_kernels(lowered, plan, structure, path)

    def test_a_gemm_in_float_keeps_its_node_and_its_weight(self, tmp_path: Path) -> None:
        model, arrays = one_layer()
        structure = find_structure(model)
        treatments = {"hidden.out": scale_of_two(seen_by_layer(arrays)["hidden.out"], "per tensor")}
        plan = self.plan(structure, treatments)
        lowered = self.lower(model, plan, structure)
        assert set(lowered.trace_names) == {"first"}
        nodes = {str(node.name): node for node in lowered.model.graph}
        for gemm in ("second", "head"):
            assert nodes[gemm].op_type == "MatMul"
            read = nodes[gemm].inputs[1]
            assert read is not None and read.const_value is not None
            kept = read.const_value.numpy().astype(np.float32)
            np.testing.assert_array_equal(kept, arrays[f"{gemm}.weight"])
        quantizers = [n for n in nodes.values() if n.op_type == "QuantizeLinear"]
        assert [n.inputs[0].name for n in quantizers if n.inputs[0]] == ["hidden.out"]

    def test_gemms_that_share_a_weight_share_its_codes(self, tmp_path: Path) -> None:
        model = two_gemms()
        structure = find_structure(model)
        treatments: dict[str, Treatment] = {
            "hidden.out": PerTensor(affine(8)),
            "tanh.out": PerTensor(affine(1 / 4)),
        }
        lowered = self.lower(model, self.plan(structure, treatments), structure)
        ((first,), (second,)) = (lowered.trace_names[gemm.name] for gemm in structure.gemms)
        assert first.weight == second.weight and first.node != second.node
        stored = [
            v for v in lowered.model.graph.initializers.values() if v.dtype == ir.DataType.INT8
        ]
        matrices = [v for v in stored if v.shape is not None and v.shape.rank() == 2]
        assert [value.name for value in matrices] == [first.weight]

    @pytest.mark.parametrize("form", ["MatMul", "Gemm, transB"])
    @pytest.mark.parametrize("name", [name for name in TREATMENTS if name != DYNAMIC])
    def test_the_mean_error_of_rounded_weights_goes_into_the_bias(
        self, form: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        """Calibrated on what the products see of these very rows, outputs keep their mean."""
        if self.refusal(name) is not None:
            return
        if (reason := self.wrong.get((name, form))) is not None:
            request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
        treatment = TREATMENTS[name]
        rows = (X + 1).astype(np.float16).astype(np.float32).reshape(-1, K)
        x = rows[None] if form == "MatMul" else rows
        structure = find_structure(one_gemm(ROUGH, form=form))
        plan = self.plan(structure, {g.input: treatment for g in structure.gemms})
        seen = rounded_input(-rows, treatment, self.cuts)
        exact = seen @ ROUGH + BIAS
        errors = []
        for mean in ((), tuple(float(m) for m in seen.mean(axis=0))):
            sites = {tensor: replace(site, mean=mean) for tensor, site in plan.sites.items()}
            model = one_gemm(ROUGH, form=form)
            lowered = self.lower(model, replace(plan, sites=sites), structure).model
            assert "gemm.bias" not in lowered.graph.initializers
            found = self.outputs(lowered, tmp_path / "model.onnx", x)[0]
            errors.append(np.abs((found.reshape(-1, N) - exact).mean(axis=0)).mean())
        plain, corrected = errors
        assert corrected < plain / 2

    @pytest.mark.parametrize("name", TREATMENTS)
    def test_rounding_of_weights_makes_up_for_itself(self, name: str, tmp_path: Path) -> None:
        """Of inputs that go together, less noise is left than of weights at their nearest."""
        if self.refusal(name) is not None or isinstance(TREATMENTS[name], Dynamic):
            return
        treatment = TREATMENTS[name]
        base = X.reshape(-1, K)[:, :1]
        rows = (base + X.reshape(-1, K) / 8).astype(np.float16).astype(np.float32)
        structure = find_structure(one_gemm(ROUGH))
        plan = self.plan(structure, {g.input: treatment for g in structure.gemms})
        seen = rounded_input(-rows, treatment, self.cuts)
        mean, covariance = tuple(map(float, seen.mean(axis=0))), np.cov(seen.T, bias=True)
        exact, noises = seen @ ROUGH + BIAS, []
        for known in (None, covariance):
            sites = {
                tensor: replace(site, mean=mean, covariance=known)
                for tensor, site in plan.sites.items()
            }
            lowered = self.lower(one_gemm(ROUGH), replace(plan, sites=sites), structure).model
            found = self.outputs(lowered, tmp_path / "model.onnx", rows[None])[0]
            noises.append(np.square(found.reshape(-1, N) - exact).mean())
        assert noises[1] < noises[0]

    def test_inputs_and_outputs_are_kept(self) -> None:
        for model in (one_gemm(SIGNS), two_gemms(), one_layer()[0]):
            structure = find_structure(model)
            treatments: dict[str, Treatment] = {
                g.input: PerTensor(affine(8)) for g in structure.gemms
            }
            before = _interface(model)
            lowered = self.lower(model, self.plan(structure, treatments), structure).model
            assert _interface(lowered) == before

    def test_plan_structure_and_weights_are_as_they_were(self) -> None:
        for treatment in self.expressed().values():
            model = one_gemm(ROUGH)
            structure = find_structure(model)
            plan = self.plan(structure, {g.input: treatment for g in structure.gemms})
            arrays = {n: v.const_value for n, v in model.graph.initializers.items()}
            before = deepcopy((plan, structure)), weights_of(model)
            self.lower(model, plan, structure)
            assert (plan, structure) == before[0]
            for name, tensor in arrays.items():
                assert tensor is not None
                np.testing.assert_array_equal(tensor.numpy(), before[1][name])


def _zero_points(treatment: Treatment) -> list[int]:
    if isinstance(treatment, Grouped):
        return [affine.zero_point for affine in treatment.affines]
    return [treatment.affine.zero_point] if isinstance(treatment, PerTensor) else []


def _interface(model: ir.Model) -> list[tuple[str | None, ir.DataType | None, str]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, value.dtype, str(value.shape)) for value in values]
