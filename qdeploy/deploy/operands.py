"""The quantized forms of a GEMM's input on ONNX Runtime CPU, and the weight rows that they meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import LEVELS, Affine
from qdeploy.calibrate.plan import Dynamic, Grouped, PerTensor, Treatment
from qdeploy.deploy.graph import GraphEditor

Array = npt.NDArray[Any]

# The first group keeps the full width when it holds at least this share of the channels; below, its
# channels are cut out too, as the zero rows would cost more than the cut.
WIDE_SHARE = 0.75
# A group joins the wide GEMM as repeated rows while these are at most this share of its rows, and
# while rounding its scale up to m·s widens its step by no more than this factor (m is whole, so 2
# refuses only what the shared zero point stretches).
REPEATED_SHARE = 0.3
COARSER = 2.0


_Pair = tuple[tuple[int, ...], Affine]


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
    """Adds the nodes that quantize an activation to a graph."""

    def __init__(self, editor: GraphEditor) -> None:
        self._editor = editor

    def operands(self, value: ir.Value, name: str, treatment: Treatment) -> list[Operand]:
        if isinstance(treatment, Dynamic):
            return [self._dynamic(value, name)]
        if isinstance(treatment, PerTensor):
            source = self._prescaled(value, name, treatment)
            return [self.quantized(source, name, treatment.affine, np.arange(0))]
        assert isinstance(treatment, Grouped)
        return self._grouped(value, name, treatment)

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
        return Operand(np.arange(0), codes, scale, zero_point)

    def _prescaled(self, value: ir.Value, name: str, treatment: PerTensor) -> ir.Value:
        if not treatment.prescale:
            return value
        factor = self._editor.constant(f"{name}.prescale", np.array(treatment.prescale, np.float32))
        node = self._editor.node("Mul", [value, factor], f"{name}/prescale", like=value)
        return node.outputs[0]

    def _grouped(self, value: ir.Value, name: str, treatment: Grouped) -> list[Operand]:
        pairs = sorted(zip(treatment.groups, treatment.affines, strict=True), key=_size)
        total = sum(len(g) for g in treatment.groups) + len(treatment.outlier_channels)
        operands = []
        if len(pairs[0][0]) >= WIDE_SHARE * total:
            wide, pairs = self._wide(value, name, pairs, total)
            operands.append(wide)
        for index, (group, affine) in enumerate(pairs, len(operands) + 1):
            channels, label = np.array(group), f"{name}/group{index}"
            source = self._pick(value, channels, label)
            operands.append(self.quantized(source, label, affine, channels))
        if treatment.outlier_channels:
            channels = np.array(treatment.outlier_channels)
            operands.append(Operand(channels, self._pick(value, channels, f"{name}/outliers")))
        return operands

    def _wide(
        self, value: ir.Value, name: str, pairs: list[_Pair], total: int
    ) -> tuple[Operand, list[_Pair]]:
        """The first group at full width with every group that can join it, and the other groups."""
        (group, affine), *others = pairs
        rows = np.full(total, -1)
        rows[list(group)] = group
        wide = self.quantized(value, f"{name}/wide", affine, rows)
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
        return Operand(rows, joined.outputs[0], wide.scale, wide.zero_point), left

    def _coarse(
        self, value: ir.Value, name: str, affine: Affine, times: int, channels: Array
    ) -> ir.Value:
        """Codes of some channels on the scale times·s."""
        label = f"{name}/times{times}"
        picked = self._pick(value, channels, label)
        coarse = Affine(float(np.float32(affine.scale * times)), affine.zero_point)
        return self.quantized(picked, label, coarse, channels).value

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

    def quantized(self, source: ir.Value, name: str, affine: Affine, rows: Array) -> Operand:
        scale = self._editor.constant(f"{name}.scale", np.array(affine.scale, np.float32))
        zero = self._editor.constant(f"{name}.zero_point", np.array(affine.zero_point, np.uint8))
        node = self._editor.node(
            "QuantizeLinear",
            [source, scale, zero],
            f"{name}/quantize",
            dtype=ir.DataType.UINT8,
            like=source,
        )
        return Operand(rows, node.outputs[0], scale, zero)


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


def rows_of(weight: Array, operand: Operand) -> Array:
    """The weight [K', N] that an operand's columns meet; see `Operand.rows`."""
    if len(operand.rows) == 0:
        return weight
    picked: Array = weight[operand.rows]
    picked[operand.rows < 0] = 0
    return picked
