"""Lowering for TensorRT 10 and 11: FP16-typed Q/DQ around each planned GEMM, all else in FP16.

Strongly typed networks take every type from the graph: DequantizeLinear gives FP16 because its
scale is FP16. Activations are int8 with zero point 0 and one scale per tensor; a group of channels
becomes a slice at multiples of 32 with a scale and a GEMM of its own, whose order the permutation
in front made (`qdeploy.deploy.passes.permute_channels`), and outlier channels an FP16 GEMM of a
multiple of 8 rows. A plan of FP8 has the same form in FLOAT8E4M3FN. Attention products stay in
FP16: TensorRT's fused attention kernel takes them so. Query, key and value read one Q/DQ pair, so
that their GEMMs can merge. Embedding tables are FP16.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.e4m3 import e4m3_scales, round_e4m3
from qdeploy.calibrate.plan import PerTensor, Plan, Treatment
from qdeploy.calibrate.schemes import E4M3
from qdeploy.deploy.lowering.cost_model import Costs
from qdeploy.deploy.lowering.factors import Factor
from qdeploy.deploy.lowering.fp16_scales import half_scale
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.lowering.operands import OperandWriter
from qdeploy.deploy.lowering.qdq import QdqLowering
from qdeploy.deploy.passes.to_fp16 import ToFp16
from qdeploy.graph.structure import Gemm, Structure
from qdeploy.types import Array

CUTS = GemmConstraints(
    repeats=False, multiple=32, float_multiple=16, second_norm=False, splits=True
)
# A multiplication in front of a rounding becomes part of its kernel. A further product is a
# rounding, the GEMM and a sum: FP16 written by the GEMM, and read twice and written by the sum.
COSTS = Costs(CUTS, factor_kernels=0, factor_bytes=0, product_kernels=3, product_bytes=8)


def lower(model: ir.Model, plan: Plan, structure: Structure, tokens: int = 1) -> Lowered:
    """The graph of a plan for TensorRT. `model` is consumed.

    Args:
        model: canonical graph, or its permuted form.
        plan: with channel indices of that same graph, after `fit`.
        structure: of that same graph.
        tokens: rows times tokens of a run; changes nothing here.

    Returns:
        The graph, FP16 inside, int64 inputs and FP32 outputs.
    """
    kind = _TensorRtFp8 if plan.activations == E4M3 else _TensorRt
    return kind(model, plan, structure, tokens).run()


class _TensorRt(QdqLowering):
    cuts = CUTS

    def lower_site(self, tensor: str, name: str, treatment: Treatment, gemms: list[Gemm]) -> None:
        """With `int8_residuals` a residual sum reads what the GEMMs read: one Q/DQ pair for all."""
        value = self.editor.values[tensor]
        sums = {use.node for use in value.uses() if use.node.op_type == "Add"}
        super().lower_site(tensor, name, treatment, gemms)
        plain = isinstance(treatment, PerTensor) and not treatment.pre_quant_scale
        if not (self.plan.options.get("int8_residuals") and plain and gemms):
            return
        self._lowered.rounded_sums += len(sums)
        quantizers = (u.node for u in value.uses() if u.node.op_type == "QuantizeLinear")
        for codes in [node.outputs[0] for node in quantizers]:
            for use in list(codes.uses()):
                others = {u.node for u in value.uses()} - sums
                self.editor.replace_uses(value, use.node.outputs[0], besides=others)

    def whole(self, gemm: Gemm, factors: list[Factor], bias: Array | None) -> ir.Value:
        """All columns of a GEMM; where its reader cuts them, from products of their own columns.

        The compiler moves such a cut in front of the product, between the weight and its
        DequantizeLinear, and multiplies in float (seen in TensorRT-RTX 1.7's layers). Products of
        their own columns stay INT8, and it merges them again.
        """
        count = self._cut_by_reader(gemm)
        # joined again for the reader, who cuts them as before
        if count == 1:
            return super().whole(gemm, factors, bias)
        parts: list[ir.Value | None] = [
            self.product(gemm, factors, bias, f"{gemm.name}/part_read{index}", columns)
            for index, columns in enumerate(np.array_split(np.arange(gemm.n), count), 1)
        ]
        return self.editor.node("Concat", parts, f"{gemm.name}/join", axis=-1).outputs[0]

    def _cut_by_reader(self, gemm: Gemm) -> int:
        """Blocks of columns into which query, key and value of one GEMM are cut, as [3, heads,
        width]; 1 where they are not."""
        readers = [use.node for use in self.editor.values[gemm.output].uses()]
        if len(readers) != 1 or readers[0].op_type != "Reshape":
            return 1
        reshaped = readers[0].outputs[0]
        shape = [] if reshaped.shape is None else list(reshaped.shape)
        cuts = [use.node for use in reshaped.uses()]
        if not cuts or any(node.op_type not in ("Slice", "Split", "Gather") for node in cuts):
            return 1
        # the columns are the last axes; the first of those is the one that is cut
        inner = 1
        for size in reversed(shape):
            if not isinstance(size, int):
                return 1
            inner *= size
            if inner == gemm.n:
                return size
        return 1

    def quantize(self, weight: Array) -> tuple[Array, Array]:
        """Codes on the scales that FP16 holds, so that nothing is lost when they become FP16."""
        codes, scale = super().quantize(weight)
        scale = half_scale(scale)
        codes = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        return codes, scale

    def finish(self) -> ir.Model:
        ToFp16().apply(self.editor.model, self.plan, self.structure)
        return self.editor.finish()


class _TensorRtFp8(_TensorRt):
    """The same with codes of FLOAT8E4M3FN, which have no zero point."""

    def __init__(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> None:
        super().__init__(model, plan, structure, tokens)
        # the type of its zero point makes QuantizeLinear round to FP8
        self.writer = OperandWriter(self.editor, signed=True, cuts=self.cuts, e4m3=True)

    def quantize(self, weight: Array) -> tuple[Array, Array]:
        """Codes [K', N] on scales, FP32 [N] or [1], that FP16 holds."""
        scale = half_scale(e4m3_scales(weight, per_channel=self.plan.per_channel_weights))
        return round_e4m3(weight, scale), scale
