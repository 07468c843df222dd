"""Lowering to MatMul between Q/DQ pairs in standard ONNX, for targets that fuse them themselves."""

from __future__ import annotations

import onnx_ir as ir

from qdeploy.deploy.lowering.base import Lowering
from qdeploy.deploy.lowering.operands import Operand


class QdqLowering(Lowering):
    """DequantizeLinear → MatMul ← DequantizeLinear for each planned GEMM."""

    signed = True

    def int8_product(
        self, operand: Operand, codes: ir.Value, scale: ir.Value, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, ir.Node]:
        # The weight is [K, N]: scales of output channels run along axis 1.
        weight = self.editor.node(
            "DequantizeLinear", [codes, scale], f"{label}.weight/dequantize", axis=1, like=codes
        )
        values = self._values(operand, label)
        product = self.editor.node("MatMul", [values, weight.outputs[0]], label)
        result = product.outputs[0]
        if bias is not None:
            result = self.editor.node("Add", [result, bias], f"{label}/bias").outputs[0]
        return result, product

    def _values(self, operand: Operand, label: str) -> ir.Value:
        """The operand's values; dequantized once for all of its GEMMs."""
        # Query, key and value share one pair, so that a target can merge their GEMMs.
        for use in operand.value.uses():
            if use.node.op_type == "DequantizeLinear" and use.node.inputs[1] is operand.scale:
                return use.node.outputs[0]
        return self.writer.dequantized(operand, f"{label}.input")
