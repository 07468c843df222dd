"""FP8 E4M3 (ONNX's FLOAT8E4M3FN): rounding, weights, expected error (pure functions).

Four bits of exponent and three of mantissa, no infinity, ±448 at most (Micikevicius et al. 2022,
arXiv 2209.05433, table 1). Normal numbers begin at 2⁻⁶; below them steps are 2⁻⁹.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import E4M3_LARGEST, SMALLEST_SCALE
from qdeploy.types import Array

E4M3_TYPE = np.dtype(ir.DataType.FLOAT8E4M3FN.numpy())
_SUBNORMAL_STEP = 2.0**-9
# Mean square of a rounding error over mean square of the value. A value m · 2^e, 1 ≤ m < 2, has
# ulp 2^(e−3) and an error of variance ulp² / 12 (Widrow 1956): 1 / (768 m²) of its square. Where
# log m is uniform, E[1/m²] = ∫₁² dm / (m³ ln 2) = 3 / (8 ln 2), and the ratio 7.0e-4, 31.5 dB.
# It is 0.180 · 2^(−2p) of Widrow and Kollár, "Quantization Noise" (2008), chapter 12, at p = 4.
RELATIVE_ERROR = 3 / (8 * float(np.log(2))) / 768


def round_e4m3(x: Array, scale: Array | float) -> Array:
    """FP32 → FLOAT8E4M3FN codes of x / scale, to nearest even, ±448 at most.

    What ONNX QuantizeLinear gives with `saturate` 1, its default.
    """
    steps = np.asarray(x, np.float32) / np.asarray(scale, np.float32)
    # the cast gives NaN beyond the range
    codes: Array = np.clip(steps, -E4M3_LARGEST, E4M3_LARGEST).astype(E4M3_TYPE)
    return codes


def e4m3_scales(weight: Array, *, per_channel: bool) -> Array:
    """FP32 scales, [N] or [1] per tensor, at which the peaks of a weight [K, N] are ±448."""
    peak = np.abs(weight).max(axis=0)
    peak = peak if per_channel else peak.max(keepdims=True)
    scales: Array = np.maximum(peak / E4M3_LARGEST, SMALLEST_SCALE).astype(np.float32)
    return scales


def error_variance(power: Array, scale: Array | float) -> Array:
    """Expected mean square of the rounding error.

    Normal numbers have an error in proportion; steps of subnormal ones bound it below.

    Args:
        power: mean square of the values, FP64.
        scale: one real value is this many times its code; FP32, of a shape that broadcasts.
    """
    floor = np.square(np.asarray(scale, np.float64) * _SUBNORMAL_STEP) / 12
    result: Array = RELATIVE_ERROR * power + floor
    return result
