"""An operand and the weight that it meets, and what the rounding of the weight adds to a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.plan import PerTensor, Treatment
from qdeploy.deploy.lowering.operands import Operand
from qdeploy.types import Array


@dataclass(frozen=True)
class Factor:
    """An operand and the weight it meets: codes with scales, or floats where scale is None.

    Attributes:
        shift: mean of what the rounding of the weight adds to each output, FP64 [N] or 0.
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
        mean = mean * np.array(treatment.pre_quant_scale)
    if not len(operand.rows):
        return mean
    # a row that stands m times meets an m-th of its channel each time
    times = np.bincount(operand.rows[operand.rows >= 0], minlength=len(mean))
    return (mean / np.maximum(times, 1))[operand.rows]


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
