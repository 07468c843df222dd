"""Lowering for ONNX Runtime's CUDA provider: MatMulInteger written out, all else in FP16.

That provider has no rule that turns Q/DQ around a MatMul into an integer kernel: such a graph runs
in float, and slower than without. So the integer product is written: QuantizeLinear →
MatMulInteger (int8 × int8, cuBLAS on tensor cores) → Cast → Mul with both scales, in FP32 since
the sums leave FP16's range → FP16. Symmetric ranges only: the provider's kernel takes int8.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.lowering.base import Lowering
from qdeploy.deploy.lowering.cost_model import Costs
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.lowering.operands import Operand
from qdeploy.deploy.passes.to_fp16 import ToFp16
from qdeploy.graph.constants import constant
from qdeploy.graph.structure import Structure


def lower(model: ir.Model, plan: Plan, structure: Structure, tokens: int = 1) -> Lowered:
    """The graph of a plan for ONNX Runtime on CUDA. `model` is consumed.

    Args:
        model: canonical graph, or its permuted form.
        plan: with channel indices of that same graph, after `fit`.
        structure: of that same graph.
        tokens: rows times tokens of a run; changes nothing here.

    Returns:
        The graph, FP16 inside, int64 inputs and FP32 outputs.
    """
    return _OrtCuda(model, plan, structure, tokens).run()


# cuBLAS takes int8 rows of a multiple of 4 and is fastest from 16 on; each further product writes
# its sums in FP32 and adds them, so that repeated rows are the cheaper form of a group.
CUTS = GemmConstraints(multiple=16, float_multiple=8)
# Nothing is fused there. Factors are one more kernel over FP16. A further product is a slice,
# its rounding, the GEMM (int32), Cast and Mul (FP32), Cast to FP16, and a sum.
COSTS = Costs(CUTS, factor_kernels=1, factor_bytes=4, product_kernels=7, product_bytes=32)


class _OrtCuda(Lowering):
    signed = True
    cuts = CUTS

    def __init__(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> None:
        super().__init__(model, plan, structure, tokens)
        self._in_fp32: set[str] = set()  # names of nodes

    def int8_product(
        self, operand: Operand, codes: ir.Value, scale: ir.Value, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, ir.Node]:
        assert operand.scale is not None
        step, steps = constant(operand.scale), constant(scale)
        assert step is not None and steps is not None
        product = self.editor.node(
            "MatMulInteger", [operand.value, codes], label, dtype=ir.DataType.INT32
        )
        cast = self.editor.node(
            "Cast", [product.outputs[0]], f"{label}/float", to=int(ir.DataType.FLOAT)
        )
        both = self.editor.constant(
            f"{label}.scale", step.astype(np.float32) * steps.astype(np.float32)
        )
        scaled = self.editor.node("Mul", [cast.outputs[0], both], f"{label}/scale")
        self._in_fp32 |= {str(cast.name), str(scaled.name)}
        result = scaled.outputs[0]
        if bias is not None:
            result = self.editor.node("Add", [result, bias], f"{label}/bias").outputs[0]
        return result, product

    def finish(self) -> ir.Model:
        ToFp16(frozenset(self._in_fp32)).apply(self.editor.model, self.plan, self.structure)
        return self.editor.finish()
