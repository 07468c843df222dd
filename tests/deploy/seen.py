"""What the products of a target see of a grouped input: its rounding, written out per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.calibrate.plan import Grouped
from qdeploy.deploy.lowering.groups import GemmConstraints, grouped_gemm

Array = npt.NDArray[Any]
AS_PLANNED = GemmConstraints()  # groups on their own scales


@dataclass(frozen=True)
class Seen:
    """Of C channels.

    Attributes:
        scale: step of each, FP32 [C].
        least, most: codes that it has, [C].
        kept: in float, bool [C].
        parts: channels whose weights share a scale per output channel.
    """

    scale: Array
    least: Array
    most: Array
    kept: Array
    parts: tuple[tuple[int, ...], ...]

    def rounded(self, x: Array) -> Array:
        """x [..., C] as the products see it, FP32; ties go to even."""
        codes = np.clip(np.rint(x / self.scale), self.least, self.most)
        result: Array = np.where(self.kept, x, codes * self.scale).astype(np.float32)
        return result


def seen_of(treatment: Grouped, cuts: GemmConstraints = AS_PLANNED) -> Seen:
    """The definition: each group on its scale; a channel in m columns has the first one's step, and
    m times its codes."""
    total = sum(map(len, treatment.groups)) + len(treatment.outlier_channels)
    scale, kept = np.ones(total, np.float32), np.zeros(total, bool)
    least, most = np.full(total, -128.0), np.full(total, 127.0)
    outliers, parts = treatment.outlier_channels, list(treatment.groups)
    for group, affine in zip(treatment.groups, treatment.affines, strict=True):
        scale[list(group)] = affine.scale
        least[list(group)] = -affine.zero_point
        most[list(group)] = 255 - affine.zero_point
    found = grouped_gemm(treatment, cuts)
    if found.split is not None:
        rows = found.split.rows[found.split.rows >= 0]
        joined, times = np.unique(rows, return_counts=True)
        scale[joined] = found.split.affine.scale
        least[joined], most[joined] = -128 * times, 127 * times
        outliers = found.outliers
        parts = [tuple(map(int, joined)), *(group for group, _ in found.slim)]
    kept[list(outliers)] = True
    return Seen(scale, least, most, kept, tuple(parts))
