"""What the lowerings of all targets share: sites in order, weights, sums of partial products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import LARGEST, quantize_weight
from qdeploy.calibrate.options import ALL_SCOPE
from qdeploy.calibrate.plan import Float, Grouped, PerTensor, Plan, Treatment
from qdeploy.deploy.lowering.embeddings import lower_tables
from qdeploy.deploy.lowering.factors import (
    Factor,
    compensated_or,
    corrected,
    covariance_of,
    mean_of,
)
from qdeploy.deploy.lowering.fake_quantize import rounded
from qdeploy.deploy.lowering.groups import GemmConstraints, column_blocks, rows_of
from qdeploy.deploy.lowering.lowered import Lowered, TraceName, Widened
from qdeploy.deploy.lowering.operands import Operand, OperandWriter
from qdeploy.graph.constants import constant
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.sites import ACTIVATION_FUNCTIONS
from qdeploy.graph.structure import Gemm, Structure
from qdeploy.types import Array

# Of a stored constant: weight that it was made of, type, shape, bytes.
_Key: TypeAlias = tuple[str, str, tuple[int, ...], bytes]


@dataclass(frozen=True)
class _Cut:
    """A GEMM in blocks of columns, and the activation function that each passes."""

    activation: ir.Node
    blocks: list[Array]


class Lowering(ABC):
    """One plan, on its way into the graph of one target.

    Attributes:
        signed, cuts: see `OperandWriter`.
        fits_16_bits: see `quantize_weight`; for targets that run on processors without VNNI.
        largest: code of a weight; less for fewer bits than int8 has.
        tokens: rows times tokens of the runs that the graph is meant for.
    """

    signed: ClassVar[bool] = False
    fits_16_bits: ClassVar[bool] = False
    largest: ClassVar[int] = LARGEST
    cuts: ClassVar[GemmConstraints] = GemmConstraints()

    def __init__(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> None:
        self.editor = GraphEditor(model)
        self.writer = OperandWriter(self.editor, signed=self.signed, cuts=self.cuts)
        self.plan = plan
        self.tokens = tokens
        self.structure = structure
        self._nodes = {str(node.name): node for node in self.editor.graph}
        self._lowered = Lowered(model)
        self._readers = Counter(gemm.weight for gemm in structure.gemms)
        self._shared: dict[_Key, ir.Value] = {}  # constants of weights by content
        self._blocks: dict[str, list[ir.Value]] = {}  # by tensor: its `column_blocks`, computed

    @property
    def _fits(self) -> bool:
        return self.fits_16_bits and self.plan.any_cpu

    @abstractmethod
    def int8_product(
        self, operand: Operand, codes: ir.Value, scale: ir.Value, bias: ir.Value | None, label: str
    ) -> tuple[ir.Value, ir.Node]:
        """A product of the target: its value, and the node that multiplies.

        Args:
            operand: codes [B, S, K'].
            codes: int8 or FP8 weight [K', N].
            scale: FP32 of the weight, [N] or scalar.
            bias: FP32 [N] to add, or None.
            label: name of the node.
        """

    def pieces(self, gemm: Gemm) -> int:
        """Blocks of columns in which a target computes a GEMM before an activation function."""
        del gemm
        return 1

    def run(self) -> Lowered:
        """Lower tables, then each site in graph order; the model is consumed."""
        # In graph order: when a site is lowered, what computes it is final, and `_blocks` holds the
        # blocks in which an earlier GEMM left it.
        lower_tables(self.editor, self.plan, self.structure)
        planned = set(self.plan.quantized_gemms)
        for site in self.structure.sites:
            treatment = self.plan.treatment(site.tensor)
            if not isinstance(treatment, Float):
                gemms = [g for g in self.structure.consumers(site.tensor) if g.name in planned]
                self.lower_site(site.tensor, site.name, treatment, gemms)
        self._lowered.model = self.finish()
        return self._lowered

    def quantize(self, weight: Array) -> tuple[Array, Array]:
        """Codes, int8 or FP8, and scales, FP32 [N] or scalar, of a weight, FP32 [K', N]."""
        return quantize_weight(
            weight,
            per_channel=self.plan.per_channel_weights,
            fits_16_bits=self._fits,
            largest=self.largest,
        )

    def finish(self) -> ir.Model:
        """The graph, when all sites are lowered."""
        return self.editor.finish()

    def lower_site(self, tensor: str, name: str, treatment: Treatment, gemms: list[Gemm]) -> None:
        """Quantize one tensor for its GEMMs, and in scope all for every other reader."""
        # Readers are looked up before any node is added: quantizers read the tensor too.
        value = self.editor.values[tensor]
        readers = {use.node for use in value.uses()}
        operands: list[Operand] = []
        if tensor in self._blocks:
            operands = self.writer.block_operands(self._blocks[tensor], name, treatment)
        elif gemms:
            operands = self.writer.operands(value, name, treatment)
        # All GEMMs of a site share its operands, so that it is quantized once.
        products = {self._nodes[g.node] for g in gemms}
        if self.plan.scope == ALL_SCOPE and readers - products:
            # Every other reader gets the tensor rounded and back, but for the new quantizers,
            # which would read their own result.
            added = {use.node for use in value.uses()} - readers
            before = {use.node for use in value.uses()}
            result = rounded(self.editor, self.writer, value, name, treatment, operands)
            added |= {use.node for use in value.uses()} - before
            self.editor.replace_uses(value, result, besides=products | added)
        for gemm in gemms:
            self._lower_gemm(gemm, treatment, operands)

    def _lower_gemm(self, gemm: Gemm, treatment: Treatment, operands: list[Operand]) -> None:
        factors = [self._factor(gemm, treatment, operand) for operand in operands]
        bias = None
        if gemm.bias is not None:
            bias = constant(self.editor.graph.initializers[gemm.bias])
        bias = corrected(bias, gemm.n, factors)
        cut = self._cut(gemm)
        # Whole: the result takes the output's place, in whatever read it.
        if cut is None:
            output = self.editor.values[gemm.output]
            result = self.whole(gemm, factors, bias)
            result.shape = output.shape
            self.editor.take_over(output, result)
            self.editor.values[gemm.output] = result
            return
        # In blocks: the activation function passes each by itself, and the next site reads the
        # blocks; nothing joins them in float.
        values = []
        for index, columns in enumerate(cut.blocks, 1):
            label = f"{gemm.name}/columns{index}"
            inner = self.product(gemm, factors, bias, label, columns)
            attributes = {a.name: a.value for a in cut.activation.attributes.values()}
            node = self.editor.node(
                cut.activation.op_type,
                [inner],
                f"{cut.activation.name}/columns{index}",
                domain=cut.activation.domain,
                **attributes,
            )
            values.append(node.outputs[0])
        self._blocks[str(cut.activation.outputs[0].name)] = values

    def whole(self, gemm: Gemm, factors: list[Factor], bias: Array | None) -> ir.Value:
        """All columns of a GEMM."""
        return self.product(gemm, factors, bias, gemm.name, slice(None))

    def _cut(self, gemm: Gemm) -> _Cut | None:
        """The column blocks that a GEMM is computed in; None where it stays whole.

        An activation function keeps channels apart, and the columns of the GEMM before it are free:
        where nothing but GEMMs reads what it computes, each group of channels gets a GEMM of its
        own columns, and neither a slice nor a gather is needed to give it its own scale.
        """
        output = self.editor.values[gemm.output]
        readers = [use.node for use in output.uses()]
        # Scope all quantizes the tensor before the activation function: that reads it whole.
        if self.plan.scope == ALL_SCOPE or len(readers) != 1 or output.is_graph_output():
            return None
        (activation,) = readers
        if activation.op_type not in ACTIVATION_FUNCTIONS or len(activation.inputs) != 1:
            return None
        tensor = activation.outputs[0]
        treatment = self.plan.treatment(str(tensor.name))
        gemms = self.structure.consumers(str(tensor.name))
        planned = {self._nodes[g.node] for g in gemms if g.name in self.plan.quantized_gemms}
        plain = isinstance(treatment, PerTensor) and not treatment.pre_quant_scale
        if not (plain or isinstance(treatment, Grouped)) or tensor.is_graph_output():
            return None
        if {use.node for use in tensor.uses()} != planned:
            return None
        assert isinstance(treatment, PerTensor | Grouped)
        blocks = column_blocks(treatment, gemm.n, self.pieces(gemm), self.cuts)
        if len(blocks) == 1 and np.array_equal(blocks[0], np.arange(gemm.n)):
            return None
        return _Cut(activation, blocks)

    def _factor(self, gemm: Gemm, treatment: Treatment, operand: Operand) -> Factor:
        """The weight rows that an operand meets."""
        stored = constant(self.editor.graph.initializers[gemm.weight])
        assert stored is not None
        # A Gemm with transB stores [N, K]; from here on every weight is [K, N].
        weight: Array = stored.astype(np.float32)
        weight = weight.T if gemm.transposed else weight
        taken: Array | float = 0.0
        if isinstance(treatment, PerTensor) and treatment.pre_quant_shift:
            taken = np.array(treatment.pre_quant_shift) @ weight.astype(np.float64)
        if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
            weight = weight / np.array(treatment.pre_quant_scale, np.float32)[:, None]
        part = rows_of(weight, operand.rows)
        # Outlier channels: rows in float, which shift no output.
        if operand.scale is None:
            return Factor(operand, part, None)
        codes, scale = self.quantize(part)
        if self._fits:
            before = self._lowered.widened.get(gemm.name, Widened())
            self._lowered.widened[gemm.name] = before + Widened.of(part, scale)
        site = self.plan.sites[gemm.input]
        # layers that share a weight share its codes, and differ in what they meet
        if site.covariance is not None and self._readers[gemm.weight] == 1:
            covariance = covariance_of(site.covariance, treatment, operand)
            codes = compensated_or(
                codes,
                part,
                scale,
                covariance,
                fits_16_bits=self._fits,
                largest=self.largest,
            )
        mean = mean_of(site.mean, treatment, operand)
        shift = 0.0 if mean is None else mean @ (codes * scale - part.astype(np.float64))
        return Factor(operand, codes, scale, shift - taken)

    def _stored(self, gemm: Gemm, name: str, array: Array) -> ir.Value:
        """A constant made of a GEMM's weight; layers that share the weight share it too."""
        if self._readers[gemm.weight] == 1:
            return self.editor.constant(name, array)
        # By content too: layers that share a weight may meet it in other groups of rows, or divided
        # by other factors.
        key = (gemm.weight, str(array.dtype), array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self.editor.constant(name, array)
        return self._shared[key]

    def product(
        self,
        gemm: Gemm,
        factors: list[Factor],
        bias: Array | None,
        label: str,
        chosen: Array | slice,
    ) -> ir.Value:
        """The chosen columns of a GEMM, with its bias."""
        added = None
        if bias is not None:
            added = self.editor.constant(f"{label}.bias", bias[chosen])
        result: ir.Value | None = None
        trace_names = self._lowered.trace_names.get(gemm.name, ())
        floats = self._lowered.float_products.get(gemm.name, ())
        for index, factor in enumerate(factors, 1):
            part = label if index == 1 else f"{label}/part{index}"
            if factor.scale is None:
                stored = self._stored(gemm, f"{part}.weight_float", factor.weight[:, chosen])
                node = self.editor.node("MatMul", [factor.operand.value, stored], part)
                floats += (str(node.name),)
                product = node.outputs[0]
            else:
                one = not self.plan.per_channel_weights
                scale = factor.scale.reshape(()) if one else factor.scale[chosen]
                kind = self.plan.gemms[gemm.name].precision
                codes = self._stored(gemm, f"{part}.weight_{kind}", factor.weight[:, chosen])
                steps = self._stored(gemm, f"{part}.weight_scale", scale)
                # into the first product alone, whose kernel adds it for nothing
                first = added if index == 1 else None
                product, node = self.int8_product(factor.operand, codes, steps, first, part)
                trace_names += (TraceName(str(codes.name), str(node.name)),)
            if result is not None:
                name = f"{label}/sum{index}" if index < len(factors) else f"{label}/sum"
                product = self.editor.node("Add", [result, product], name).outputs[0]
            result = product
        self._lowered.trace_names[gemm.name] = trace_names
        if floats:
            self._lowered.float_products[gemm.name] = floats
        assert result is not None
        return result
