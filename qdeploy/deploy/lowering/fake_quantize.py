"""Scope all: a tensor that its readers see rounded to 8 bits, in standard ONNX operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, Affine
from qdeploy.calibrate.plan import Grouped, PerTensor, Treatment
from qdeploy.deploy.lowering.operands import Operand, OperandWriter
from qdeploy.graph.editor import GraphEditor


def rounded(
    editor: GraphEditor,
    writer: OperandWriter,
    value: ir.Value,
    name: str,
    treatment: Treatment,
    operands: list[Operand],
) -> ir.Value:
    """The tensor through Quantize and Dequantize; outlier channels stay as they are.

    Args:
        operands: what stands for the tensor in products already; its codes are used again.
    """
    if isinstance(treatment, Grouped):
        return _grouped(editor, writer, value, name, treatment)
    # A site that no GEMM reads has no codes yet.
    codes = operands or writer.operands(value, name, treatment)
    result = writer.dequantized(codes[0], name)
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        # what was scaled before the codes is scaled back behind them
        back = 1 / np.array(treatment.pre_quant_scale, np.float32)
        result = writer.elementwise("Mul", result, back, f"{name}/unscale")
    if isinstance(treatment, PerTensor) and treatment.pre_quant_shift:
        taken = np.array(treatment.pre_quant_shift, np.float32)
        result = writer.elementwise("Add", result, taken, f"{name}/unshift")
    return result


def _grouped(
    editor: GraphEditor, writer: OperandWriter, value: ir.Value, name: str, treatment: Grouped
) -> ir.Value:
    """A scale per channel, as a Div and a Mul around the rounding.

    Not as Q/DQ along an axis: ONNX Runtime fuses such a pair around an Add into QLinearAdd, which
    takes scalars only, and then the file does not load (tests/deploy/test_traps.py).
    """
    channels = sum(map(len, treatment.groups)) + len(treatment.outlier_channels)
    scales, shifts = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    for group, affine in zip(treatment.groups, treatment.affines, strict=True):
        scales[list(group)] = affine.scale
        shifts[list(group)] = affine.zero_point - MIDDLE
    # In units of its own step each channel has the scale 1. A zero point away from the middle is
    # an addition of whole steps, which commutes with rounding.
    steps = writer.elementwise("Div", value, scales, f"{name}/steps")
    if shifts.any():
        steps = writer.elementwise("Add", steps, shifts, f"{name}/shift")
    result = writer.dequantized(writer.quantized(steps, name, Affine(1.0, MIDDLE)), name)
    if shifts.any():
        result = writer.elementwise("Sub", result, shifts, f"{name}/unshift")
    result = writer.elementwise("Mul", result, scales, f"{name}/values")
    if not treatment.outlier_channels:
        return result
    # Their scale was 1 above; what came of that is not taken.
    mask = np.zeros(channels, bool)
    mask[list(treatment.outlier_channels)] = True
    flags = editor.constant(f"{name}.is_outlier", mask)
    return editor.node("Where", [flags, value, result], f"{name}/where", like=value).outputs[0]
