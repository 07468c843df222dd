"""Lowering for ONNX Runtime on the CPU: each planned GEMM becomes MatMulIntegerToFloat.

The kernel is written out, not left to the optimizer's Q/DQ fusions. Of those, several silently give
up INT8 (shared int8 activations, 2-D MatMul + Add) or fail (activation scales along an axis; see
docs/targets.md), and the bias joins the kernel only this way. Activations are uint8; the symmetric
scheme is uint8 with zero point 128, the same numbers as int8.

A grouped input (PEG) becomes:

1. the widest group, quantized over the full width with its own scale s, times the weight whose
   other rows are zero: the wide GEMM keeps its shape, and channels that saturate there meet zeros;
2. a group whose scale is about m·s for a whole number m is quantized with the scale m·s, its codes
   and its weight rows joined to the wide GEMM m times: m · s · code · row is exact, in one kernel
   and without a pass over the output;
3. any other group: its channels, with their own scale, times a slim INT8 GEMM;
4. the outlier channels times a slim FP32 GEMM;
5. the sum of all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, Affine, quantize_weight
from qdeploy.calibrate.options import ALL_SCOPE
from qdeploy.calibrate.plan import Float, Grouped, PerTensor, Plan, Treatment
from qdeploy.calibrate.sites import constant
from qdeploy.calibrate.structure import Gemm, Structure
from qdeploy.deploy.graph import MICROSOFT, GraphEditor
from qdeploy.deploy.operands import Operand, OperandWriter, rows_of
from qdeploy.deploy.tables import lower_tables

Array = npt.NDArray[Any]


@dataclass
class Lowered:
    """A lowered graph, and which INT8 weights stand for which GEMM.

    Attributes:
        model: the graph for the target.
        weights: initializer names of the int8 weights, by GEMM name.
    """

    model: ir.Model
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)


def lower_ort_cpu(model: ir.Model, plan: Plan, structure: Structure) -> Lowered:
    """The graph of a plan for ONNX Runtime CPU. `model` is consumed.

    Args:
        model: canonical graph, or its permuted form.
        plan: with channel indices of that same graph.
        structure: of that same graph.
    """
    editor = GraphEditor(model)
    lowering = _Lowering(editor, plan)
    lower_tables(editor, plan, structure)
    sites = [s for s in structure.sites if not isinstance(plan.treatment(s.tensor), Float)]
    for site in sites:
        gemms = [g for g in structure.consumers(site.tensor) if g.name in set(plan.int8_gemms)]
        lowering.lower_site(site.tensor, site.name, gemms)
    return Lowered(editor.finish(), lowering.weights)


class _Lowering:
    def __init__(self, editor: GraphEditor, plan: Plan) -> None:
        self._editor = editor
        self._writer = OperandWriter(editor)
        self._plan = plan
        self._nodes = {str(node.name): node for node in editor.graph}
        self.weights: dict[str, tuple[str, ...]] = {}

    def lower_site(self, tensor: str, name: str, gemms: list[Gemm]) -> None:
        """Quantize one tensor for its GEMMs, and in scope all for every other reader."""
        value = self._editor.values[tensor]
        treatment = self._plan.treatment(tensor)
        readers = {use.node for use in value.uses()}
        operands = self._writer.operands(value, name, treatment) if gemms else []
        if self._plan.scope == ALL_SCOPE:
            gemm_nodes = {self._nodes[g.node] for g in gemms}
            if readers - gemm_nodes:
                keep = gemm_nodes | {use.node for use in value.uses()} - readers
                self._fake_quantize(value, name, treatment, operands, keep)
        for gemm in gemms:
            self._lower_gemm(gemm, treatment, operands)

    # Readers that are no GEMM (scope all)

    def _fake_quantize(
        self,
        value: ir.Value,
        name: str,
        treatment: Treatment,
        operands: list[Operand],
        keep: set[ir.Node],
    ) -> None:
        """Let every other reader of `value` see it through Quantize and Dequantize."""
        before = {use.node for use in value.uses()}
        if isinstance(treatment, Grouped):
            result = self._grouped_round_trip(value, name, treatment)
        else:
            assert isinstance(treatment, PerTensor)
            codes = operands or self._writer.operands(value, name, treatment)
            result = self._dequantized(codes[0], name, value)
            if treatment.prescale:  # what was scaled before the codes is scaled back behind them
                back = 1 / np.array(treatment.prescale, np.float32)
                factor = self._editor.constant(f"{name}.unscale", back)
                result = self._elementwise("Mul", result, factor, f"{name}/unscale")
        added = {use.node for use in value.uses()} - before
        self._editor.replace_uses(value, result, besides=keep | added)

    def _dequantized(self, operand: Operand, name: str, like: ir.Value) -> ir.Value:
        node = self._editor.node(
            "DequantizeLinear",
            [operand.value, operand.scale, operand.zero_point],
            f"{name}/dequantize",
            like=like,
        )
        return node.outputs[0]

    def _grouped_round_trip(self, value: ir.Value, name: str, treatment: Grouped) -> ir.Value:
        """Quantize and dequantize with a scale per channel, the scales as a Div and a Mul.

        Not as Q/DQ along an axis: ONNX Runtime fuses such a pair around an Add into QLinearAdd,
        which takes scalars only, and then the file does not load (tests/deploy/test_traps.py).
        """
        channels = sum(map(len, treatment.groups)) + len(treatment.outlier_channels)
        scales, shifts = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        for group, affine in zip(treatment.groups, treatment.affines, strict=True):
            scales[list(group)] = affine.scale
            shifts[list(group)] = affine.zero_point - MIDDLE
        scale = self._editor.constant(f"{name}.scales", scales)
        shift = self._editor.constant(f"{name}.shifts", shifts)
        steps = self._elementwise("Div", value, scale, f"{name}/steps")
        if shifts.any():
            steps = self._elementwise("Add", steps, shift, f"{name}/shift")
        codes = self._writer.quantized(steps, name, Affine(1.0, MIDDLE), np.arange(0))
        result = self._dequantized(codes, name, value)
        if shifts.any():
            result = self._elementwise("Sub", result, shift, f"{name}/unshift")
        result = self._elementwise("Mul", result, scale, f"{name}/values")
        if not treatment.outlier_channels:
            return result
        mask = np.zeros(channels, bool)
        mask[list(treatment.outlier_channels)] = True
        flags = self._editor.constant(f"{name}.is_outlier", mask)
        node = self._editor.node("Where", [flags, value, result], f"{name}/where", like=value)
        return node.outputs[0]

    def _elementwise(self, op_type: str, a: ir.Value, b: ir.Value, name: str) -> ir.Value:
        return self._editor.node(op_type, [a, b], name, like=a).outputs[0]

    # GEMMs

    def _lower_gemm(self, gemm: Gemm, treatment: Treatment, operands: list[Operand]) -> None:
        weight = constant(self._editor.graph.initializers[gemm.weight])
        assert weight is not None
        weight = weight.astype(np.float32).T if gemm.transposed else weight.astype(np.float32)
        if isinstance(treatment, PerTensor) and treatment.prescale:
            weight = weight / np.array(treatment.prescale, np.float32)[:, None]
        bias = None if gemm.bias is None else self._editor.graph.initializers[gemm.bias]
        products, names = [], []
        for index, operand in enumerate(operands):
            label = gemm.name if index == 0 else f"{gemm.name}/part{index + 1}"
            part = rows_of(weight, operand)
            first_bias = bias if index == 0 else None
            if operand.scale is None:
                products.append(self._float_product(operand, part, label))
            else:
                product, name = self._int8_product(operand, part, first_bias, label)
                products.append(product)
                names.append(name)
        self.weights[gemm.name] = tuple(names)
        output = self._editor.values[gemm.output]
        result = products[0]
        if len(products) > 1:
            result = self._editor.node("Sum", list(products), f"{gemm.name}/sum").outputs[0]
        result.shape = output.shape
        self._editor.take_over(output, result)
        self._editor.values[gemm.output] = result

    def _int8_product(
        self, operand: Operand, weight: Array, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, str]:
        codes, scale = quantize_weight(weight, per_channel=self._plan.per_channel_weights)
        stored = self._editor.constant(f"{label}.weight_int8", codes)
        weight_scale = self._editor.constant(
            f"{label}.weight_scale", scale if self._plan.per_channel_weights else scale.reshape(())
        )
        node = self._editor.node(
            "MatMulIntegerToFloat",
            [
                operand.value,
                stored,
                operand.scale,
                weight_scale,
                operand.zero_point,
                *([None, bias] if bias is not None else []),
            ],
            label,
            domain=MICROSOFT,
        )
        return node.outputs[0], str(stored.name)

    def _float_product(self, operand: Operand, weight: Array, label: str) -> ir.Value:
        stored = self._editor.constant(f"{label}.weight_float", weight)
        return self._editor.node("MatMul", [operand.value, stored], label).outputs[0]
