"""Lowering for TensorRT 10 and 11: FP16-typed Q/DQ around each planned GEMM, all else in FP16.

Strongly typed networks take every type from the graph: DequantizeLinear gives FP16 because its
scale is FP16. Activations are int8 with zero point 0 and one scale per tensor; a group of channels
becomes a slice at multiples of 32 with a scale and a GEMM of its own, whose order the permutation
in front made (`qdeploy.deploy.passes.permute_channels`), and outlier channels an FP16 GEMM of a multiple of 8 rows.
Attention products stay in FP16: TensorRT's fused attention kernel takes them so. Query, key and
value read one Q/DQ pair, so that their GEMMs can merge. Embedding tables are FP16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.affine import MIDDLE, SYMMETRIC, Affine
from qdeploy.calibrate.plan import FLOAT, Float, Grouped, PerTensor, Plan, SitePlan, Treatment
from qdeploy.deploy.lowering.cost_model import Costs
from qdeploy.deploy.lowering.groups import Cuts
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.lowering.qdq import QdqLowering
from qdeploy.deploy.passes.to_fp16 import SMALLEST, to_half
from qdeploy.deploy.targets.tensorrt.rules import violations
from qdeploy.errors import TargetError
from qdeploy.graph.structure import Gemm, Structure

__all__ = ["COSTS", "fit", "lower", "violations"]
Array = npt.NDArray[Any]
CUTS = Cuts(repeats=False, multiple=32, float_multiple=8, second_norm=False)
# A multiplication in front of a rounding becomes part of its kernel. A further product is a
# rounding, the GEMM and a sum: FP16 written by the GEMM, and read twice and written by the sum.
COSTS = Costs(CUTS, factor_kernels=0, factor_bytes=0, product_kernels=3, product_bytes=8)
# A scale that FP16 does not hold is widened up to this factor; beyond, its GEMMs stay in FP16.
_COARSER = 2.0


def fit(plan: Plan, structure: Structure, target: str = "tensorrt") -> Plan:
    """The plan with scales that FP16 holds, and without int8 tables.

    Args:
        target: for the texts.

    Raises:
        TargetError: what the target has no form for.
    """
    if any(site.treatment.kind == "dynamic" for site in plan.sites.values()):
        raise TargetError(
            f"{target} has no ranges found at run time (strategy dynamic). Build w8a8 or peg, "
            "which calibrate."
        )
    if plan.sites and plan.activations != SYMMETRIC:
        raise TargetError(
            f"{target} quantizes activations with zero point 0 only. Leave --activations out, or "
            "pass --activations symmetric."
        )
    sites = {tensor: _fitted(site) for tensor, site in plan.sites.items()}
    lost = {t for t, s in sites.items() if isinstance(s.treatment, Float)} - {
        t for t, s in plan.sites.items() if isinstance(s.treatment, Float)
    }
    gemms = dict(plan.gemms)
    for gemm in structure.gemms:
        if gemm.input in lost:
            reason = "its input's scale is too small for FP16"
            gemms[gemm.name] = replace(gemms[gemm.name], precision=FLOAT, reason=reason)
    return replace(plan, sites=sites, gemms=gemms, tables=())


def _fitted(site: SitePlan) -> SitePlan:
    treatment = _fit_treatment(site.treatment)
    if treatment is not None:
        return replace(site, treatment=treatment)
    reason = f"a scale below {SMALLEST:.1e} is none in FP16"
    return replace(site, treatment=Float(), reason=reason, sqnr_db=None)


def _fit_treatment(treatment: Treatment) -> Treatment | None:
    if isinstance(treatment, PerTensor):
        affine = _fit_scale(treatment.affine)
        return None if affine is None else replace(treatment, affine=affine)
    if isinstance(treatment, Grouped):
        affines = [_fit_scale(affine) for affine in treatment.affines]
        known = tuple(affine for affine in affines if affine is not None)
        return replace(treatment, affines=known) if len(known) == len(affines) else None
    return treatment


def _fit_scale(affine: Affine) -> Affine | None:
    """The scale rounded up to FP16; None where it is too small for that."""
    scale = half_scale(np.array(affine.scale))
    never_seen = affine.scale <= 1e-11  # constantly zero: any scale does
    if not never_seen and scale > _COARSER * affine.scale:
        return None
    return Affine(float(scale), MIDDLE)


def half_scale(scale: Array) -> Array:
    """Scales as FP32 values that FP16 holds, none smaller than before, none below its normals."""
    floored = np.maximum(scale, SMALLEST)
    rounded = floored.astype(np.float16)
    up = np.where(rounded < floored, np.nextafter(rounded, np.float16(np.inf)), rounded)
    result: Array = up.astype(np.float32)
    return result


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
    return _TensorRt(model, plan, structure, tokens).run()


class _TensorRt(QdqLowering):
    cuts = CUTS

    def lower_site(self, tensor: str, name: str, treatment: Treatment, gemms: list[Gemm]) -> None:
        """With `int8_residuals` a residual sum reads what the GEMMs read: one Q/DQ pair for all."""
        value = self.editor.values[tensor]
        sums = {use.node for use in value.uses() if use.node.op_type == "Add"}
        super().lower_site(tensor, name, treatment, gemms)
        plain = isinstance(treatment, PerTensor) and not treatment.prescale
        if not (self.plan.options.get("int8_residuals") and plain and gemms):
            return
        self._lowered.rounded_sums += len(sums)
        quantizers = (u.node for u in value.uses() if u.node.op_type == "QuantizeLinear")
        for codes in [node.outputs[0] for node in quantizers]:
            for use in list(codes.uses()):
                others = {u.node for u in value.uses()} - sums
                self.editor.replace_uses(value, use.node.outputs[0], besides=others)

    def quantize(self, weight: Array) -> tuple[Array, Array]:
        """Codes on the scales that FP16 holds, so that nothing is lost when they become FP16."""
        codes, scale = super().quantize(weight)
        scale = half_scale(scale)
        codes = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        return codes, scale

    def finish(self) -> ir.Model:
        to_half(self.editor)
        return self.editor.finish()
