"""Affine 8-bit quantization: from a range to scale and zero point, and back (pure functions).

Codes are always uint8, since that is what the CPU kernels take: the symmetric scheme, int8 with
zero point 0, is the same numbers with 128 added. `signed` turns a code into the int8 form. Of FP8
only the scale is found here (`qdeploy.calibrate.e4m3` has the rest).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.schemes import E4M3, SYMMETRIC
from qdeploy.errors import PlanError
from qdeploy.types import Array

LEVELS = 255  # steps between the codes 0 and 255
LARGEST = 127  # code of an int8 weight
PAIR_LIMIT = 128  # 255 · 128 ≤ 32,767 < 255 · 129: two int8 weights of one sign, in 16 bits
MIDDLE = 128  # uint8 code that stands for int8 zero
E4M3_LARGEST = 448.0  # of FP8
# Smallest scale: a site that is constantly zero still needs scale > 0, and 1e-12 keeps 1/scale and
# scale · 255 normal FP32 numbers.
SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class Affine:
    """x ≈ scale · (code − zero_point), code in 0 … 255; of FP8 scale · code.

    Attributes:
        scale: FP32 value, > 0.
        zero_point: uint8 code of the real value 0; 0 of FP8.
    """

    scale: float
    zero_point: int


def affine_from_range(low: float, high: float, scheme: str) -> Affine:
    """Scale and zero point for the range [low, high], widened so that it holds zero.

    Zero is represented exactly (Jacob et al. 2018, arXiv 1712.05877, §2.1): padding and masked
    values must not turn into noise. Symmetric: scale = max|x| / 127, zero point 128 (int8 zero).
    E4M3: scale = max|x| / 448.

    Raises:
        PlanError: a range that is not finite, or upside down.
    """
    if not (np.isfinite(low) and np.isfinite(high)) or low > high:
        raise PlanError(
            f"A range must be finite and ordered, and [{low}, {high}] is not. "
            "Does the model give NaN or infinity on the calibration rows?"
        )
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme == E4M3:
        return Affine(_fp32(max(-low, high) / E4M3_LARGEST), 0)
    if scheme == SYMMETRIC:
        scale = max(-low, high) / 127
        return Affine(_fp32(scale), MIDDLE)
    scale = _fp32((high - low) / LEVELS)
    return Affine(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def _fp32(scale: float) -> float:
    return float(np.float32(max(scale, SMALLEST_SCALE)))


def quantize(x: Array, scale: Array | float, zero_point: Array | int) -> Array:
    """FP32 → uint8 codes, rounding half to even as ONNX QuantizeLinear does."""
    codes = np.rint(x / np.asarray(scale, np.float32)) + zero_point
    return np.clip(codes, 0, 255).astype(np.uint8)


def dequantize(codes: Array, scale: Array | float, zero_point: Array | int) -> Array:
    """uint8 codes → FP32."""
    shifted = codes.astype(np.float32) - np.asarray(zero_point, np.float32)
    result: Array = shifted * np.asarray(scale, np.float32)
    return result


def quantize_weight(
    weight: Array, *, per_channel: bool, fits_16_bits: bool = False, largest: int = LARGEST
) -> tuple[Array, Array]:
    """Symmetric int8 weight: codes [K, N] in −127 … 127 and FP32 scales [N] (or [1] per tensor).

    Args:
        weight: FP32 [K, N], output channels last.
        per_channel: one scale per output channel, else one for all.
        fits_16_bits: widen scales as far as the codes need for `pair_peak` ≤ `PAIR_LIMIT`.
        largest: code, less than 127 for fewer bits than int8 has.
    """
    peak = np.abs(weight).max(axis=0)
    if fits_16_bits:
        peak = np.maximum(peak, pair_peak(weight) * (LARGEST / PAIR_LIMIT))
    codes, scale = _rounded(weight, peak, per_channel, largest)
    if fits_16_bits and (over := pair_peak(codes) > PAIR_LIMIT).any():
        # two halves were both rounded up; a thousandth wider they cannot be
        codes, scale = _rounded(weight, np.where(over, 1.001 * peak, peak), per_channel, largest)
    return codes, scale


def _rounded(weight: Array, peak: Array, per_channel: bool, largest: int) -> tuple[Array, Array]:
    """Codes, and the scales at which the peaks [N] have the largest code."""
    peak = peak if per_channel else peak.max(keepdims=True)
    scale = np.maximum(peak / largest, SMALLEST_SCALE).astype(np.float32)
    return np.clip(np.rint(weight / scale), -largest, largest).astype(np.int8), scale


def pair_peak(weight: Array) -> Array:
    """The largest sum of a pair of weights of one sign, [N], of weights or codes [K, N].

    Processors without VNNI multiply uint8 by int8 in pairs (2i, 2i + 1) along K, and add the two
    products in 16 bits, which saturate (VPMADDUBSW in Intel's manual). Both activations of a pair
    may be 255, or one of them 0, so weights of two signs do not help each other.
    """
    odd = len(weight) % 2
    pairs = np.pad(weight, ((0, odd), (0, 0))).reshape(-1, 2, weight.shape[1])
    # the accumulator meets int8's extremes with int32, or they would wrap
    wide = pairs.astype(np.float64 if pairs.dtype.kind == "f" else np.int32)
    above, below = np.maximum(wide, 0).sum(axis=1), np.minimum(wide, 0).sum(axis=1)
    peak: Array = np.maximum(above.max(axis=0), -below.min(axis=0))
    return peak
