"""The SQNR of logits: how far rows differ, over the noise that quantization adds; one definition.

The signal is what differs between rows. A constant in the outputs (a price of 250, an offset that
all classes share) answers nothing, changes with no row, and would hide any noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from qdeploy.types import Array


def logit_sqnr_db(outputs: Iterable[tuple[Array, Array]], *, exclusive: bool) -> float:
    """10 · log₁₀(Σ (ref − constant)² / Σ (ref − other)²) over all outputs, dB.

    The constant of classes that exclude each other is one number, the mean of all their logits,
    which a softmax ignores. How far apart two classes stand on average is an answer and stays in
    the signal. Of values (a regression, labels of their own) it is the mean of each. A single row
    has nothing to differ from: its signal is all it is.

    Args:
        outputs: (reference, other) of each output, float [rows or tokens, ...], without padding.
        exclusive: `qdeploy.head.Head.exclusive`.

    Returns:
        +inf where nothing differs; −inf where a value is not finite, or where the reference is the
        same for all rows and the other is not.
    """
    signal = noise = 0.0
    for reference, other in outputs:
        exact = reference.astype(np.float64)
        signal += _spread(exact, exclusive)
        noise += float(np.square(exact - other).sum())
    if not (math.isfinite(noise) and math.isfinite(signal)):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _spread(values: Array, exclusive: bool) -> float:
    """Squares of float64 [rows, ...] without their constant."""
    if len(values) < 2:
        return float(np.square(values).sum())
    centre: Array = values.mean() if exclusive else values.mean(axis=0)
    return float(np.square(values - centre).sum())
