"""Expected quantization noise of a site, from statistics and weights alone.

Rounding adds an error of variance step² / 12 to each element (Widrow 1956); that of FP8 goes with
the element itself (`qdeploy.calibrate.e4m3.error_variance`). Behind a GEMM the error of channel c
is spread by the squared norm of the weight's row c; it is compared with the variance of the GEMM's
own output, so that noise is a share and means the same at every depth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.calibrate.e4m3 import error_variance
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.graph.structure import Gemm, Site, Structure
from qdeploy.types import Array


class NoiseModel:
    """Noise of any treatment of any site of one model."""

    def __init__(
        self,
        structure: Structure,
        statistics: Mapping[str, SiteStatistics],
        weights: Mapping[str, Array],
        *,
        per_channel_weights: bool,
    ) -> None:
        """Args: statistics by tensor name; weights [K, N] by initializer name, upright."""
        self._structure = structure
        self._statistics = statistics
        self._weights = weights
        self._per_channel = per_channel_weights

    def channel_weight(self, site: Site) -> Array:
        """Share of noise per unit of error variance in each channel, FP64 [C].

        For the input of GEMMs the mean over them of ‖W[c, :]‖² / Σ var(output); for any other
        site 1 / Σ var(site).
        """
        gemms = self._structure.consumers(site.tensor)
        if not gemms:
            variance = self._statistics[site.tensor].variance
            return np.full(site.channels, 1.0 / max(float(variance.sum()), 1e-30))
        rows = [
            np.square(self._weights[g.weight], dtype=np.float64).sum(axis=1) / self._output(g)
            for g in gemms
        ]
        result: Array = np.mean(rows, axis=0)
        return result

    def weight_noise(self, site: Site) -> float:
        """Share of noise that the int8 weights behind a site add by themselves.

        The error of a weight is multiplied by its input: Σ_c E[x_c²] · Σ_n step_n² / 12.
        """
        gemms = self._structure.consumers(site.tensor)
        power = float(self._statistics[site.tensor].power.sum())
        shares = [power * self._weight_steps(g) / 12 / self._output(g) for g in gemms]
        return float(np.mean(shares)) if shares else 0.0

    def share(self, site: Site, steps: Array) -> float:
        """Noise share of a site quantized with a step (scale) per channel [C]; 0 = in float."""
        return float((self.channel_weight(site) * np.square(steps) / 12).sum())

    def e4m3_share(self, site: Site, scale: float) -> float:
        """Noise share of a site in FP8 with one scale."""
        variance = error_variance(self._statistics[site.tensor].power, scale)
        return float((self.channel_weight(site) * variance).sum())

    def _weight_steps(self, gemm: Gemm) -> float:
        weight = self._weights[gemm.weight]
        _, scale = quantize_weight(weight, per_channel=self._per_channel)
        return float(np.square(np.broadcast_to(scale, (gemm.n,)), dtype=np.float64).sum())

    def _output(self, gemm: Gemm) -> float:
        """Σ variance of a GEMM's output; where it was not observed, of the product's estimate."""
        observed = self._statistics.get(gemm.output)
        if observed is not None:
            return max(float(observed.variance.sum()), 1e-30)
        power = self._statistics[gemm.input].variance
        weight = np.square(self._weights[gemm.weight], dtype=np.float64).sum(axis=1)
        return max(float((power * weight).sum()), 1e-30)


def decibels(share: float) -> float:
    """Noise share → SQNR in dB, at most 200.

    >>> decibels(0.001)
    30.0
    """
    return round(-10 * float(np.log10(max(share, 1e-20))), 2)
