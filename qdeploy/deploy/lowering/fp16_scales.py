"""Plans whose scales FP16 holds, for targets that compute in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import FLOAT, Float, Grouped, PerTensor, Plan, SitePlan, Treatment
from qdeploy.calibrate.schemes import E4M3, SYMMETRIC
from qdeploy.errors import TargetError
from qdeploy.graph.structure import Structure
from qdeploy.types import Array

# Smallest normal FP16 number: below, TensorRT flushes a scale to zero, and steps lose bits.
SMALLEST = float(np.finfo(np.float16).tiny)
# A scale that FP16 does not hold is widened up to this factor; beyond, its GEMMs stay in FP16.
_COARSER = 2.0


def fit_to_half(plan: Plan, structure: Structure, target: str) -> Plan:
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
    if plan.sites and plan.activations not in (SYMMETRIC, E4M3):
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
    return Affine(float(scale), affine.zero_point)


def half_scale(scale: Array) -> Array:
    """Scales as FP32 values that FP16 holds, none smaller than before, none below its normals."""
    floored = np.maximum(scale, SMALLEST)
    rounded = floored.astype(np.float16)
    up = np.where(rounded < floored, np.nextafter(rounded, np.float16(np.inf)), rounded)
    result: Array = up.astype(np.float32)
    return result
