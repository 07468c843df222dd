"""The quantized forms of a GEMM's input, and the weight rows that they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, Affine
from qdeploy.calibrate.e4m3 import E4M3_TYPE
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Treatment
from qdeploy.deploy.lowering.channel_splits import ChannelSplit
from qdeploy.deploy.lowering.groups import (
    GemmConstraints,
    Group,
    GroupedGemm,
    Repeated,
    grouped_gemm,
    padded,
    window,
)
from qdeploy.graph.constants import constant
from qdeploy.graph.editor import GraphEditor
from qdeploy.types import Array

# No list of rows: the operand is the whole tensor, and meets the weight as it stands.
_ALL_ROWS = np.arange(0)


@dataclass(frozen=True)
class Operand:
    """Channels of an input, quantized: codes with a scale, or floats where scale is None.

    Attributes:
        rows: the weight row that each column of `value` meets; −1 for a row of zeros; empty for
            all rows in order.
    """

    rows: Array
    value: ir.Value
    scale: ir.Value | None = None
    zero_point: ir.Value | None = None


class OperandWriter:
    """Adds the nodes that quantize an activation to a graph.

    Attributes:
        signed: symmetric ranges as int8 with zero point 0; else as uint8 with zero point 128, the
            same numbers.
        cuts: in which pieces the target multiplies.
        e4m3: codes are FP8.
    """

    def __init__(
        self, editor: GraphEditor, *, signed: bool, cuts: GemmConstraints, e4m3: bool = False
    ) -> None:
        self._editor = editor
        self.signed = signed
        self.cuts = cuts
        self.e4m3 = e4m3

    def operands(self, value: ir.Value, name: str, treatment: Treatment) -> list[Operand]:
        """Everything that stands for `value` in a product."""
        if isinstance(treatment, Dynamic):
            return [self._dynamic(value, name)]
        if isinstance(treatment, PerTensor):
            source = value
            # the scale rounds x · factor; the weight rows are divided by the factor (base.py)
            if treatment.pre_quant_scale:
                factor = np.array(treatment.pre_quant_scale, np.float32)
                shift = np.array(treatment.pre_quant_shift, np.float32)
                source = self._scaled(value, factor, shift, name)
            return [self.quantized(source, name, treatment.affine)]
        assert isinstance(treatment, Grouped)
        return self._grouped(value, name, grouped_gemm(treatment, self.cuts))

    def quantized(
        self, source: ir.Value, name: str, affine: Affine, rows: Array = _ALL_ROWS
    ) -> Operand:
        """Codes of a tensor on one scale."""
        scale = self._editor.constant(f"{name}.scale", np.array(affine.scale, np.float32))
        zero = self._editor.constant(f"{name}.zero_point", self._zero_point(affine))
        assert zero.dtype is not None
        node = self._editor.node(
            "QuantizeLinear",
            [source, scale, zero],
            f"{name}/quantize",
            dtype=zero.dtype,
            like=source,
        )
        return Operand(rows, node.outputs[0], scale, zero)

    def _zero_point(self, affine: Affine) -> Array:
        """The code of zero, whose type is that of all codes."""
        if self.e4m3:
            return np.zeros((), E4M3_TYPE)
        # 128 in the middle of uint8 is 0 in the middle of int8: the same numbers in another type.
        # Any other zero point has no int8 form that targets with symmetric ranges take.
        signed = self.signed and affine.zero_point == MIDDLE
        return np.array(0, np.int8) if signed else np.array(affine.zero_point, np.uint8)

    def dequantized(self, operand: Operand, name: str) -> ir.Value:
        """Values of an operand's codes."""
        node = self._editor.node(
            "DequantizeLinear",
            [operand.value, operand.scale, operand.zero_point],
            f"{name}/dequantize",
            like=operand.value,
        )
        return node.outputs[0]

    def elementwise(self, op_type: str, value: ir.Value, vector: Array, name: str) -> ir.Value:
        """A tensor and a constant vector over its channels."""
        other = self._editor.constant(f"{name}.vector", vector)
        return self._editor.node(op_type, [value, other], name, like=value).outputs[0]

    def _scaled(self, value: ir.Value, factor: Array, shift: Array, name: str) -> ir.Value:
        """A tensor less a shift per channel (empty for none), times a factor per channel.

        Behind LayerNormalization by one more of it, with the factors in its weights (unless
        `GemmConstraints.second_norm` says otherwise): that costs less than a multiplication and
        nothing where only GEMMs read the tensor, as the first one falls away then.
        """
        # LayerNormalization ends in · γ + β per channel: factor · γ and factor · β scale its
        # result. Not where γ or β is computed, or is one number for all channels.
        node = value.producer()
        weights: list[Array | None] = []
        normed = node is not None and node.op_type == "LayerNormalization"
        if node is not None and normed and self.cuts.second_norm:
            weights = [constant(weight) for weight in node.inputs[1:] if weight is not None]
        # Nodes are named as in plan.json, so that the same plan gives the same bytes as ever.
        if node is None or not weights or any(_other(w, factor) for w in weights):
            result = self.elementwise("Mul", value, factor, f"{name}/prescale")
            if not len(shift):
                return result
            return self.elementwise("Add", result, -shift * factor, f"{name}/preshift")
        gamma, beta = weights[0], weights[1] if len(weights) > 1 else None
        assert gamma is not None
        parts = {"scale": gamma * factor}
        if len(shift):
            parts["bias"] = ((0 if beta is None else beta) - shift) * factor
        elif beta is not None:
            parts["bias"] = beta * factor
        scaled = [
            self._editor.constant(f"{name}.{part}", array.astype(np.float32))
            for part, array in parts.items()
        ]
        attributes = {a.name: a.value for a in node.attributes.values()}
        return self._editor.node(
            node.op_type, [node.inputs[0], *scaled], f"{name}/prescale", like=value, **attributes
        ).outputs[0]

    def block_operands(
        self, values: Sequence[ir.Value], name: str, treatment: Treatment
    ) -> list[Operand]:
        """Everything that stands for a tensor that was computed in the blocks of `column_blocks`.

        Args:
            values: one per block, in their order.
        """
        if isinstance(treatment, PerTensor):
            # One scale: the blocks are codes of one tensor, and one product reads them joined.
            whole = [self.quantized(value, name, treatment.affine) for value in values]
            return [replace(whole[0], value=self._joined([part.value for part in whole], name))]
        assert isinstance(treatment, Grouped)
        parts = grouped_gemm(treatment, self.cuts, picked=True)
        least, multiple = self.cuts.least, self.cuts.multiple
        # `column_blocks` put the pieces of the widest group first, then one block per other group.
        others = len(parts.repeated) + len(parts.slim) + bool(parts.outliers)
        base, rest = values[: len(values) - others], iter(values[len(values) - others :])
        operands = []
        if parts.split is not None:
            operands.append(self._pieces(base[0], name, parts.split))
        if parts.wide is not None:
            wide = [self.quantized(value, f"{name}/wide", parts.wide[1]) for value in base]
            # Its blocks hold the widest group's channels alone: no rows of zeros, as `_wide` has.
            codes, met = [operand.value for operand in wide], [np.array(parts.wide[0])]
            for part in parts.repeated:
                label = f"{name}/times{part.times}"
                # times · s · code · row is the sum of that many equal terms of the wide product
                codes += part.times * [self.quantized(next(rest), label, part.affine).value]
                met += part.times * [padded(part.channels, least, multiple)[1]]
            joined = self._joined(codes, name)
            operands.append(replace(wide[0], rows=np.concatenate(met), value=joined))
        for index, (channels, affine) in enumerate(parts.slim, len(operands) + 1):
            label = f"{name}/group{index}"
            rows = padded(channels, least, multiple)[1]
            operands.append(self.quantized(next(rest), label, affine, rows))
        # Outlier channels are not rounded at all: a float product, as narrow as the target allows.
        if parts.outliers:
            rows = padded(parts.outliers, least, self.cuts.float_multiple)[1]
            operands.append(Operand(rows, next(rest)))
        return operands

    def _dynamic(self, value: ir.Value, name: str) -> Operand:
        node = self._editor.node(
            "DynamicQuantizeLinear",
            [value],
            f"{name}/quantize",
            outputs=3,
            dtype=ir.DataType.UINT8,
            like=value,
        )
        codes, scale, zero_point = node.outputs
        return Operand(_ALL_ROWS, codes, scale, zero_point)

    def _grouped(self, value: ir.Value, name: str, parts: GroupedGemm) -> list[Operand]:
        operands = []
        if parts.split is not None:
            operands.append(self._split(value, name, parts.split))
        if parts.wide is not None:
            operands.append(self._wide(value, name, parts, parts.wide))
        for index, (channels, affine) in enumerate(parts.slim, len(operands) + 1):
            label = f"{name}/group{index}"
            # A slice at multiples is free for a kernel to read; what it holds besides the group's
            # own channels meets rows of zeros.
            picked, rows = window(channels, parts.total, self.cuts.least, self.cuts.multiple)
            operands.append(self.quantized(self._pick(value, picked, label), label, affine, rows))
        if parts.outliers:
            multiple = self.cuts.float_multiple
            picked, rows = window(parts.outliers, parts.total, 1, multiple)
            operands.append(Operand(rows, self._pick(value, picked, f"{name}/outliers")))
        return operands

    def _split(self, value: ir.Value, name: str, split: ChannelSplit) -> Operand:
        """All channels on one scale, those of large range in several columns."""
        channels = value.shape[-1] if value.shape is not None else None
        if not np.array_equal(split.source, np.arange(len(split.source))) or channels != len(
            split.source
        ):
            value = self._pick(value, split.source, f"{name}/columns")
        return self._pieces(value, name, split)

    def _pieces(self, value: ir.Value, name: str, split: ChannelSplit) -> Operand:
        """Codes of the columns of a split."""
        if split.is_split:
            value = self.elementwise("Mul", value, split.factors, f"{name}/pieces")
            value = self.elementwise("Add", value, split.shifts, f"{name}/shifts")
        return self.quantized(value, name, split.affine, split.rows)

    def _wide(self, value: ir.Value, name: str, parts: GroupedGemm, group: Group) -> Operand:
        """The first group at full width, with the codes of every group that joins it."""
        wide = self.quantized(value, f"{name}/wide", group[1])
        codes = [wide.value]
        for part in parts.repeated:
            codes += part.times * [self._coarse(value, name, part)]
        return replace(wide, rows=parts.wide_rows(), value=self._joined(codes, name))

    def _joined(self, codes: list[ir.Value], name: str) -> ir.Value:
        """Codes side by side."""
        if len(codes) == 1:
            return codes[0]
        dtype = codes[0].dtype
        assert dtype is not None
        node = self._editor.node("Concat", [*codes], f"{name}/join", axis=-1, dtype=dtype)
        return node.outputs[0]

    def _coarse(self, value: ir.Value, name: str, part: Repeated) -> ir.Value:
        """Codes of some channels on the scale times·s."""
        label = f"{name}/times{part.times}"
        picked = self._pick(value, np.array(part.channels), label)
        return self.quantized(picked, label, part.affine).value

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


def _other(weight: Array | None, factor: Array) -> bool:
    """Whether a weight is unknown, or has not one entry per factor."""
    return weight is None or weight.shape != factor.shape
