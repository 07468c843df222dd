"""Lowering for ONNX Runtime on the CPU: each planned GEMM becomes MatMulIntegerToFloat.

The kernel is written out, not left to the optimizer's Q/DQ fusions: of those, several silently give
up INT8 (int8 activations, 2-D MatMul + Add, per-axis activation scales; see docs/targets.md), and
the bias joins the kernel only this way. Activations are uint8; the symmetric scheme is uint8 with
zero point 128, the same numbers as int8.

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

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import LEVELS, MIDDLE, Affine, quantize_weight
from qdeploy.calibrate.options import ALL_SCOPE
from qdeploy.calibrate.plan import Dynamic, Float, Grouped, PerTensor, Plan, Treatment
from qdeploy.calibrate.sites import Gemm, Structure, constant
from qdeploy.deploy.graph import MICROSOFT, GraphEditor
from qdeploy.deploy.tables import lower_tables

Array = npt.NDArray[Any]

# The first group keeps the full width when it holds at least this share of the channels; below, its
# channels are cut out too, as the zero rows would cost more than the cut.
WIDE_SHARE = 0.75
# A group joins the wide GEMM as repeated rows while these are at most this share of its rows, and
# while rounding its scale up to m·s widens its step by no more than this factor (m is whole, so 2
# refuses only what the shared zero point stretches).
REPEATED_SHARE = 0.3
COARSER = 2.0


@dataclass
class Lowered:
    """A lowered graph, and which INT8 weights stand for which GEMM.

    Attributes:
        model: the graph for the target.
        weights: initializer names of the int8 weights, by GEMM name.
    """

    model: ir.Model
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)


_Pair = tuple[tuple[int, ...], Affine]


@dataclass(frozen=True)
class _Operand:
    """Channels of an input, quantized: codes with a scale, or floats where scale is None.

    Attributes:
        rows: the weight row that each column of `value` meets; −1 for a row of zeros; empty for
            all rows in order.
    """

    rows: Array
    value: ir.Value
    scale: ir.Value | None = None
    zero_point: ir.Value | None = None


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
        self._plan = plan
        self._nodes = {str(node.name): node for node in editor.graph}
        self.weights: dict[str, tuple[str, ...]] = {}

    def lower_site(self, tensor: str, name: str, gemms: list[Gemm]) -> None:
        """Quantize one tensor for its GEMMs, and in scope all for every other reader."""
        value = self._editor.values[tensor]
        treatment = self._plan.treatment(tensor)
        readers = {use.node for use in value.uses()}
        operands = self._operands(value, name, treatment) if gemms else []
        if self._plan.scope == ALL_SCOPE:
            gemm_nodes = {self._nodes[g.node] for g in gemms}
            if readers - gemm_nodes:
                keep = gemm_nodes | {use.node for use in value.uses()} - readers
                self._fake_quantize(value, name, treatment, operands, keep)
        for gemm in gemms:
            self._lower_gemm(gemm, treatment, operands)

    # Activations

    def _operands(self, value: ir.Value, name: str, treatment: Treatment) -> list[_Operand]:
        if isinstance(treatment, Dynamic):
            return [self._dynamic(value, name)]
        if isinstance(treatment, PerTensor):
            source = self._prescaled(value, name, treatment)
            return [self._quantized(source, name, treatment.affine, np.arange(0))]
        assert isinstance(treatment, Grouped)
        return self._grouped(value, name, treatment)

    def _dynamic(self, value: ir.Value, name: str) -> _Operand:
        node = self._editor.node(
            "DynamicQuantizeLinear",
            [value],
            f"{name}/quantize",
            outputs=3,
            dtype=ir.DataType.UINT8,
            like=value,
        )
        codes, scale, zero_point = node.outputs
        return _Operand(np.arange(0), codes, scale, zero_point)

    def _prescaled(self, value: ir.Value, name: str, treatment: PerTensor) -> ir.Value:
        if not treatment.prescale:
            return value
        factor = self._editor.constant(f"{name}.prescale", np.array(treatment.prescale, np.float32))
        node = self._editor.node("Mul", [value, factor], f"{name}/prescale", like=value)
        return node.outputs[0]

    def _grouped(self, value: ir.Value, name: str, treatment: Grouped) -> list[_Operand]:
        pairs = sorted(zip(treatment.groups, treatment.affines, strict=True), key=_size)
        total = sum(len(g) for g in treatment.groups) + len(treatment.outlier_channels)
        operands = []
        if len(pairs[0][0]) >= WIDE_SHARE * total:
            wide, pairs = self._wide(value, name, pairs, total)
            operands.append(wide)
        for index, (group, affine) in enumerate(pairs, len(operands) + 1):
            channels, label = np.array(group), f"{name}/group{index}"
            source = self._pick(value, channels, label)
            operands.append(self._quantized(source, label, affine, channels))
        if treatment.outlier_channels:
            channels = np.array(treatment.outlier_channels)
            operands.append(_Operand(channels, self._pick(value, channels, f"{name}/outliers")))
        return operands

    def _wide(
        self, value: ir.Value, name: str, pairs: list[_Pair], total: int
    ) -> tuple[_Operand, list[_Pair]]:
        """The first group at full width with every group that can join it, and the other groups."""
        (group, affine), *others = pairs
        rows = np.full(total, -1)
        rows[list(group)] = group
        wide = self._quantized(value, f"{name}/wide", affine, rows)
        parts, left, room = [wide.value], [], int(REPEATED_SHARE * total)
        for other, its_affine in others:
            times = repetitions(affine, its_affine)
            if times is None or times * len(other) > room:
                left.append((other, its_affine))
                continue
            room -= times * len(other)
            rows = np.concatenate([rows, np.tile(np.array(other), times)])
            parts += times * [self._coarse(value, name, affine, times, np.array(other))]
        if len(parts) == 1:
            return wide, left
        joined = self._editor.node(
            "Concat", list(parts), f"{name}/join", axis=-1, dtype=ir.DataType.UINT8
        )
        return _Operand(rows, joined.outputs[0], wide.scale, wide.zero_point), left

    def _coarse(
        self, value: ir.Value, name: str, affine: Affine, times: int, channels: Array
    ) -> ir.Value:
        """Codes of some channels on the scale times·s."""
        label = f"{name}/times{times}"
        picked = self._pick(value, channels, label)
        coarse = Affine(float(np.float32(affine.scale * times)), affine.zero_point)
        return self._quantized(picked, label, coarse, channels).value

    def _pick(self, value: ir.Value, channels: Array, name: str) -> ir.Value:
        """Some channels of the last axis: a Slice where they are neighbours, else a Gather."""
        if np.array_equal(channels, np.arange(channels[0], channels[-1] + 1)):
            bounds = [
                self._editor.constant(f"{name}.{part}", np.array([number], np.int64))
                for part, number in (
                    ("start", channels[0]),
                    ("end", channels[-1] + 1),
                    ("axis", -1),
                )
            ]
            return self._editor.node("Slice", [value, *bounds], f"{name}/slice").outputs[0]
        index = self._editor.constant(f"{name}.channels", channels.astype(np.int64))
        return self._editor.node("Gather", [value, index], f"{name}/gather", axis=-1).outputs[0]

    def _quantized(self, source: ir.Value, name: str, affine: Affine, rows: Array) -> _Operand:
        scale = self._editor.constant(f"{name}.scale", np.array(affine.scale, np.float32))
        zero = self._editor.constant(f"{name}.zero_point", np.array(affine.zero_point, np.uint8))
        node = self._editor.node(
            "QuantizeLinear",
            [source, scale, zero],
            f"{name}/quantize",
            dtype=ir.DataType.UINT8,
            like=source,
        )
        return _Operand(rows, node.outputs[0], scale, zero)

    # Readers that are no GEMM (scope all)

    def _fake_quantize(
        self,
        value: ir.Value,
        name: str,
        treatment: Treatment,
        operands: list[_Operand],
        keep: set[ir.Node],
    ) -> None:
        """Let every other reader of `value` see it through Quantize and Dequantize."""
        before = {use.node for use in value.uses()}
        if isinstance(treatment, Grouped):
            result = self._grouped_round_trip(value, name, treatment)
        else:
            assert isinstance(treatment, PerTensor)
            shared = operands and not treatment.prescale
            codes = (
                operands[0]
                if shared
                else self._quantized(value, name, treatment.affine, np.arange(0))
            )
            result = self._dequantized(codes, name, value)
        added = {use.node for use in value.uses()} - before
        self._editor.replace_uses(value, result, besides=keep | added)

    def _dequantized(self, operand: _Operand, name: str, like: ir.Value) -> ir.Value:
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
        codes = self._quantized(steps, name, Affine(1.0, MIDDLE), np.arange(0))
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

    def _lower_gemm(self, gemm: Gemm, treatment: Treatment, operands: list[_Operand]) -> None:
        weight = constant(self._editor.graph.initializers[gemm.weight])
        assert weight is not None
        weight = weight.astype(np.float32).T if gemm.transposed else weight.astype(np.float32)
        if isinstance(treatment, PerTensor) and treatment.prescale:
            weight = weight / np.array(treatment.prescale, np.float32)[:, None]
        bias = None if gemm.bias is None else self._editor.graph.initializers[gemm.bias]
        products, names = [], []
        for index, operand in enumerate(operands):
            label = gemm.name if index == 0 else f"{gemm.name}/part{index + 1}"
            part = _rows_of(weight, operand)
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
        self, operand: _Operand, weight: Array, bias: ir.Value | None, label: str
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

    def _float_product(self, operand: _Operand, weight: Array, label: str) -> ir.Value:
        stored = self._editor.constant(f"{label}.weight_float", weight)
        return self._editor.node("MatMul", [operand.value, stored], label).outputs[0]


def repetitions(wide: Affine, other: Affine) -> int | None:
    """The least m for which m times the wide group's scale spans the other group's range.

    Both share the wide group's zero point in one GEMM, so each side of zero must fit by itself.
    None where m·s would be more than `COARSER` times as coarse as the group's own scale.

    >>> repetitions(Affine(0.1, 128), Affine(1.0, 128))
    10
    """
    sides = [
        (other.zero_point * other.scale, wide.zero_point * wide.scale),
        ((LEVELS - other.zero_point) * other.scale, (LEVELS - wide.zero_point) * wide.scale),
    ]
    if any(needed > 0 and held <= 0 for needed, held in sides):
        return None
    times = max(math.ceil(needed / held * (1 - 1e-6)) for needed, held in sides if needed > 0)
    return times if times * wide.scale <= COARSER * other.scale else None


def _size(pair: _Pair) -> tuple[int, tuple[int, ...]]:
    """Sort key: largest group first, then by channels so that the order is fixed."""
    return -len(pair[0]), pair[0]


def _rows_of(weight: Array, operand: _Operand) -> Array:
    """The weight [K', N] that an operand's columns meet; see `_Operand.rows`."""
    if len(operand.rows) == 0:
        return weight
    picked: Array = weight[operand.rows]
    picked[operand.rows < 0] = 0
    return picked
