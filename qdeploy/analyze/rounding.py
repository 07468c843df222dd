"""How a treatment rounds a site's values to 8 bits and back, on arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.affine import LEVELS
from qdeploy.calibrate.plan import Float, Grouped, PerTensor, Plan, Treatment
from qdeploy.types import Array


@dataclass(frozen=True)
class Rounding:
    """Scale and zero point, of a whole tensor or of each channel.

    Attributes:
        scale: FP32 [] or [C].
        zero_point: FP32 [] or [C], whole numbers from 0 to 255.
        exact: channels that stay in float.
    """

    scale: Array
    zero_point: Array
    exact: tuple[int, ...] = ()

    def apply(self, x: Array) -> Array:
        """What is left of FP32 [..., C] after 8 bits: `dequantize(quantize(x))`, in one array."""
        codes = x / self.scale
        np.rint(codes, out=codes)
        codes += self.zero_point
        np.clip(codes, 0, LEVELS, out=codes)
        codes -= self.zero_point
        codes *= self.scale
        if self.exact:
            kept = list(self.exact)
            codes[..., kept] = x[..., kept]
        result: Array = codes
        return result


def rounding_of(treatment: Treatment, channels: int) -> Rounding | None:
    """The rounding of a static treatment; None where the tensor stays in float.

    Factors in front of one scale are a scale for each channel: x · f / s = x / (s / f).

    Args:
        channels: C of the site.
    """
    if isinstance(treatment, PerTensor):
        scale: Array = np.asarray(treatment.affine.scale, np.float32)
        if treatment.pre_quant_scale:
            scale = scale / np.array(treatment.pre_quant_scale, np.float32)
        zero: Array = np.asarray(treatment.affine.zero_point, np.float32)
        if treatment.pre_quant_shift:
            zero = zero - np.array(treatment.pre_quant_shift, np.float32) / scale
        return Rounding(scale, zero)
    if isinstance(treatment, Grouped):
        scales, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        for group, affine in zip(treatment.groups, treatment.affines, strict=True):
            scales[list(group)], zeros[list(group)] = affine.scale, affine.zero_point
        return Rounding(scales, zeros, treatment.outlier_channels)
    assert isinstance(treatment, Float), treatment
    return None


def roundings_of(plan: Plan, channels: dict[str, int]) -> dict[str, Rounding]:
    """Every site that a plan rounds, by tensor name.

    Args:
        channels: C of each site.
    """
    found = {t: rounding_of(site.treatment, channels[t]) for t, site in plan.sites.items()}
    return {tensor: rounding for tensor, rounding in found.items() if rounding is not None}
