"""An operand and the weight that it meets, and what the rounding of the weight adds to a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.compensated import compensated, output_noise
from qdeploy.calibrate.plan import Grouped, PerTensor, Treatment
from qdeploy.deploy.lowering.operands import Operand
from qdeploy.types import Array


@dataclass(frozen=True)
class Factor:
    """An operand and the weight it meets: codes with scales, or floats where scale is None.

    Attributes:
        shift: what the product has too much of each output, FP64 [N] or 0: on average, from the
            rounding of the weight; and what was taken off its input.
    """

    operand: Operand
    weight: Array
    scale: Array | None
    shift: Array | float = 0.0


def mean_of(means: Sequence[float], treatment: Treatment, operand: Operand) -> Array | None:
    """Mean of each column of an operand, FP64 [K']; None where the plan has none.

    Args:
        means: of each channel of the site, [C].
    """
    mean = np.array(means)
    if not len(mean):
        return None
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        mean = (mean - (treatment.pre_quant_shift or 0)) * np.array(treatment.pre_quant_scale)
    if not len(operand.rows):
        return mean
    # a row that stands m times meets an m-th of its channel each time
    times = np.bincount(operand.rows[operand.rows >= 0], minlength=len(mean))
    return (mean / np.maximum(times, 1))[operand.rows]


def covariance_of(covariance: Array, treatment: Treatment, operand: Operand) -> Array:
    """Covariance of the columns of an operand with the noise of their rounding, FP64 [K', K'].

    Args:
        covariance: of the channels of the site, [C, C].
    """
    steps = np.zeros(len(covariance))
    if isinstance(treatment, PerTensor):
        steps[:] = treatment.affine.scale
        if treatment.pre_quant_scale:
            covariance = covariance * np.outer(treatment.pre_quant_scale, treatment.pre_quant_scale)
    if isinstance(treatment, Grouped):
        for group, affine in zip(treatment.groups, treatment.affines, strict=True):
            steps[list(group)] = affine.scale
    noisy = covariance + np.diag(steps**2 / 12)  # of a uniform error of one step
    rows = operand.rows
    if not len(rows):
        return noisy
    times = np.bincount(rows[rows >= 0], minlength=len(noisy))
    share = np.where(rows >= 0, 1 / np.maximum(times, 1)[rows], 0.0)
    found: Array = noisy[np.ix_(rows, rows)] * np.outer(share, share)
    return found


def compensated_or(
    nearest: Array,
    weight: Array,
    scale: Array,
    covariance: Array,
    *,
    fits_16_bits: bool,
    largest: int,
) -> Array:
    """Codes whose error is made up for, where that adds less to the outputs than the nearest.

    Args:
        nearest: codes, int8 [K', N].
        weight, scale, covariance, fits_16_bits, largest: of `qdeploy.calibrate.compensated`.
    """
    codes = compensated(weight, scale, covariance, fits_16_bits=fits_16_bits, largest=largest)
    # where many codes are at their limit, no row to come has room to make up for them
    noises = [output_noise(c * scale - weight, covariance) for c in (codes, nearest)]
    return codes if noises[0] < noises[1] else nearest


def corrected(bias: Array | None, columns: int, factors: Sequence[Factor]) -> Array | None:
    """The bias less what rounding the weights adds to it on average, FP32 [N].

    Σ_c E[x_c] · (Ŵ_cn − W_cn) from the calibration rows (Nagel et al. 2019, arXiv 1906.04721,
    §4.2): it costs nothing at run time.

    Args:
        bias: FP32 [N], or None.
        columns: N.
    """
    # no activation has to be known but its mean
    shift = np.zeros(columns)
    for factor in factors:
        shift = shift + factor.shift
    if not np.any(shift):
        return bias
    found: Array = (0 if bias is None else bias.astype(np.float64)) - shift
    return found.astype(np.float32)
