"""What the lowerings of all targets share: sites in order, weights, sums of partial products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.calibrate.options import ALL_SCOPE
from qdeploy.calibrate.plan import Float, PerTensor, Plan, Treatment
from qdeploy.calibrate.sites import constant
from qdeploy.calibrate.structure import Gemm, Structure
from qdeploy.deploy.graph import GraphEditor
from qdeploy.deploy.lowered import Lowered
from qdeploy.deploy.operands import Operand, OperandWriter
from qdeploy.deploy.parts import rows_of
from qdeploy.deploy.round_trip import rounded
from qdeploy.deploy.tables import lower_tables

Array = npt.NDArray[Any]


class Lowering(ABC):
    """One plan, on its way into the graph of one target.

    Attributes:
        signed, least_rows: see `OperandWriter`.
    """

    signed: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1

    def __init__(self, model: ir.Model, plan: Plan, structure: Structure) -> None:
        self.editor = GraphEditor(model)
        self.writer = OperandWriter(self.editor, signed=self.signed, least_rows=self.least_rows)
        self.plan = plan
        self._structure = structure
        self._nodes = {str(node.name): node for node in self.editor.graph}
        self._lowered = Lowered(model)

    @abstractmethod
    def int8_product(
        self, operand: Operand, codes: ir.Value, scale: ir.Value, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, str]:
        """A product of the target, and its mark (`Lowered.marks`).

        Args:
            operand: codes [B, S, K'].
            codes: int8 weight [K', N].
            scale: FP32 of the weight, [N] or scalar.
            bias: FP32 [N] to add, or None.
            label: name of the node.
        """

    def run(self) -> Lowered:
        """Lower tables, then each site in graph order; the model is consumed."""
        lower_tables(self.editor, self.plan, self._structure)
        planned = set(self.plan.int8_gemms)
        for site in self._structure.sites:
            treatment = self.plan.treatment(site.tensor)
            if not isinstance(treatment, Float):
                gemms = [g for g in self._structure.consumers(site.tensor) if g.name in planned]
                self._lower_site(site.tensor, site.name, treatment, gemms)
        self._lowered.model = self.editor.finish()
        return self._lowered

    def _lower_site(self, tensor: str, name: str, treatment: Treatment, gemms: list[Gemm]) -> None:
        """Quantize one tensor for its GEMMs, and in scope all for every other reader."""
        value = self.editor.values[tensor]
        readers = {use.node for use in value.uses()}
        operands = self.writer.operands(value, name, treatment) if gemms else []
        products = {self._nodes[g.node] for g in gemms}
        if self.plan.scope == ALL_SCOPE and readers - products:
            added = {use.node for use in value.uses()} - readers
            before = {use.node for use in value.uses()}
            result = rounded(self.editor, self.writer, value, name, treatment, operands)
            added |= {use.node for use in value.uses()} - before
            self.editor.replace_uses(value, result, besides=products | added)
        for gemm in gemms:
            self._lower_gemm(gemm, treatment, operands)

    def _lower_gemm(self, gemm: Gemm, treatment: Treatment, operands: list[Operand]) -> None:
        weight = constant(self.editor.graph.initializers[gemm.weight])
        assert weight is not None
        weight = weight.astype(np.float32).T if gemm.transposed else weight.astype(np.float32)
        if isinstance(treatment, PerTensor) and treatment.prescale:
            weight = weight / np.array(treatment.prescale, np.float32)[:, None]
        bias = None if gemm.bias is None else self.editor.graph.initializers[gemm.bias]
        products, marks = [], []
        for index, operand in enumerate(operands):
            label = gemm.name if index == 0 else f"{gemm.name}/part{index + 1}"
            part = rows_of(weight, operand.rows)
            if operand.scale is None:
                stored = self.editor.constant(f"{label}.weight_float", part)
                product = self.editor.node("MatMul", [operand.value, stored], label).outputs[0]
                self._lowered.float_columns[gemm.name] = len(part)
            else:
                codes, scale = self._weight(part, label)
                first_bias = bias if index == 0 else None
                product, mark = self.int8_product(operand, codes, scale, first_bias, label)
                marks.append(mark)
            products.append(product)
        self._lowered.marks[gemm.name] = tuple(marks)
        result = products[0]
        if len(products) > 1:
            result = self.editor.node("Sum", list(products), f"{gemm.name}/sum").outputs[0]
        output = self.editor.values[gemm.output]
        result.shape = output.shape
        self.editor.take_over(output, result)
        self.editor.values[gemm.output] = result

    def _weight(self, weight: Array, label: str) -> tuple[ir.Value, ir.Value]:
        codes, scale = quantize_weight(weight, per_channel=self.plan.per_channel_weights)
        scale = scale if self.plan.per_channel_weights else scale.reshape(())
        stored = self.editor.constant(f"{label}.weight_int8", codes)
        return stored, self.editor.constant(f"{label}.weight_scale", scale)
