"""Weights rounded so that what one rounding adds to the outputs is taken back by the others.

GPTQ (Frantar et al. 2023, arXiv 2210.17323, §3) after OBQ: rows of a weight are rounded one after
the other, and the rows to come take over what each rounding adds to the outputs, as far as the
inputs of both go together. Three things differ here. The moments are those about the mean, since
the mean of the error is taken back by the bias. The variance of the rounding of the activations
stands on the diagonal: what is noise there cannot carry a correction. And a pair of neighbouring
rows keeps the limit of processors that add in 16 bits (`affine.pair_peak`), which the rows to come
make up for as well.
"""

from __future__ import annotations

import numpy as np

from qdeploy.calibrate.affine import LARGEST, PAIR_LIMIT
from qdeploy.types import Array

# Added to the diagonal, of its mean: calibration rows are fewer than the channels' directions.
_DAMPING = 0.01
_BLOCK = 128  # rows whose corrections reach the rest together


def compensated(
    weight: Array,
    scale: Array,
    covariance: Array,
    *,
    fits_16_bits: bool = False,
    largest: int = LARGEST,
) -> Array:
    """int8 codes [K, N] of a weight.

    Args:
        weight: [K, N].
        scale: of each output [N], or [1].
        covariance: of the inputs with the noise of their rounding, [K, K].
        fits_16_bits: two neighbours (2i, 2i + 1) of one sign add up to `PAIR_LIMIT` at most.
        largest: code, less than 127 for fewer bits than int8 has.
    """
    k, n = weight.shape
    # the input that varies most first, while there are others to make up for its rounding
    order = np.argsort(-np.diag(covariance), kind="stable")
    upper = _inverse_factor(covariance[np.ix_(order, order)])
    rest = weight[order].astype(np.float64)
    steps = np.broadcast_to(np.asarray(scale, np.float64), (n,))
    codes = np.zeros((k + k % 2, n))  # the last may have no neighbour
    for start in range(0, k, _BLOCK):
        end = min(start + _BLOCK, k)
        errors = np.empty((end - start, n))
        for at in range(start, end):
            row = order[at]
            most = _most(codes[row ^ 1], largest, fits_16_bits=fits_16_bits)
            codes[row] = np.clip(np.rint(rest[at] / steps), -most[1], most[0])
            error = (rest[at] - codes[row] * steps) / upper[at, at]
            rest[at + 1 : end] -= upper[at, at + 1 : end, None] * error
            errors[at - start] = error
        rest[end:] -= upper[start:end, end:].T @ errors
    return codes[:k].astype(np.int8)


def _most(neighbour: Array, largest: int, *, fits_16_bits: bool) -> tuple[Array, Array]:
    """The largest code above and below zero beside a neighbour's codes [N], 0 where it has none."""
    if not fits_16_bits:
        whole = np.full(neighbour.shape, float(largest))
        return whole, whole
    above = np.minimum(largest, PAIR_LIMIT - np.maximum(neighbour, 0))
    below = np.minimum(largest, PAIR_LIMIT + np.minimum(neighbour, 0))
    return above, below


def _inverse_factor(covariance: Array) -> Array:
    """The upper Cholesky factor of the damped inverse, FP64 [K, K]."""
    floor = _DAMPING * (float(np.diag(covariance).mean()) or 1.0)  # of a site that is all zeros
    damped = covariance + floor * np.eye(len(covariance))
    try:
        return _upper(np.linalg.inv(damped))
    except np.linalg.LinAlgError:
        # Moments of an earlier version are about zero, in FP32: where a mean is far larger than its
        # spread, variances may come out below zero. Such directions are lifted to the floor. Those
        # about the mean are below zero by their rounding alone. That lies within the damping in all
        # tests, but no bound for thousands of channels and any number of rows does.
        sizes, directions = np.linalg.eigh((covariance + covariance.T) / 2)
        lifted = np.maximum(sizes, 0) + (_DAMPING * float(np.maximum(sizes, 0).mean()) or 1.0)
        return _upper((directions / lifted) @ directions.T)


def _upper(inverse: Array) -> Array:
    """The upper Cholesky factor of a symmetric matrix but for its rounding."""
    factor: Array = np.linalg.cholesky((inverse + inverse.T) / 2).T
    return factor


def output_noise(error: Array, covariance: Array) -> float:
    """Σ over outputs of the variance that an error of the weights [K, N] adds to them."""
    return float(np.einsum("kn,kn->", error, covariance @ error))
