"""Lowering for ONNX Runtime on the CPU: each planned GEMM becomes MatMulIntegerToFloat.

The kernel is written out, not left to the optimizer's Q/DQ fusions. Of those, several silently give
up INT8 (shared int8 activations, 2-D MatMul + Add) or fail (activation scales along an axis; see
docs/targets.md), and the bias joins the kernel only this way. Activations are uint8; the symmetric
scheme is uint8 with zero point 128, the same numbers as int8.
"""

from __future__ import annotations

import onnx_ir as ir

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.lowering.base import Lowering
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.lowering.operands import Operand
from qdeploy.graph.editor import MICROSOFT
from qdeploy.graph.structure import Gemm, Structure


def lower(model: ir.Model, plan: Plan, structure: Structure, tokens: int = 1) -> Lowered:
    """The graph of a plan for ONNX Runtime CPU. `model` is consumed.

    Args:
        model: canonical graph, or its permuted form.
        plan: with channel indices of that same graph.
        structure: of that same graph.
        tokens: rows times tokens of the runs that the graph is meant for.

    Returns:
        The graph.
    """
    return _OrtCpu(model, plan, structure, tokens).run()


# The FP32 tensor between a feed-forward block's first GEMM and its activation function, in bytes,
# above which it is computed in so many blocks of columns: each is still in the cache when it is
# activated and quantized. Smaller ones lose more to the further kernels (docs/targets.md).
LARGE, PIECES = 8_000_000, 4


class _OrtCpu(Lowering):
    fits_16_bits = True

    def pieces(self, gemm: Gemm) -> int:
        return PIECES if 4 * self.tokens * gemm.n > LARGE else 1

    def int8_product(
        self, operand: Operand, codes: ir.Value, scale: ir.Value, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, ir.Node]:
        inputs = [operand.value, codes, operand.scale, scale, operand.zero_point]
        if bias is not None:
            inputs += [None, bias]
        node = self.editor.node("MatMulIntegerToFloat", inputs, label, domain=MICROSOFT)
        return node.outputs[0], node
