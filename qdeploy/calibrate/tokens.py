"""Which tokens carry a channel's large values: what is kept per class of token.

Encoders park attention they do not need on separators and the first token, and the outliers of the
residual stream sit there (Bondarenko et al. 2021, arXiv 2109.12948, §3; Bondarenko et al. 2023,
arXiv 2306.12929).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qdeploy.types import Array

FIRST, OTHER = "first token", "other tokens"


@dataclass
class TokenStatistics:
    """Sums of one site by class of token.

    Attributes:
        count: int64 [T], tokens seen of each class.
        energy: FP64 [T, C], sum of x² over the tokens of a class.
        peak: FP64 [T, C], largest |x| among them.
    """

    count: Array
    energy: Array
    peak: Array

    @classmethod
    def empty(cls, classes: int, channels: int) -> TokenStatistics:
        """Nothing seen yet."""
        return cls(
            np.zeros(classes, np.int64),
            np.zeros((classes, channels)),
            np.zeros((classes, channels)),
        )

    def update(self, x: Array, of: Array) -> None:
        """Take in FP32 values [rows, C] whose tokens have the classes `of`, int [rows]."""
        for index in range(len(self.count)):
            chosen = x[of == index]
            if len(chosen):
                self.count[index] += len(chosen)
                self.energy[index] += np.einsum("rc,rc->c", chosen, chosen, dtype=np.float64)
                largest = np.maximum(chosen.max(axis=0), -chosen.min(axis=0))
                np.maximum(self.peak[index], largest, out=self.peak[index])

    def merge(self, other: TokenStatistics) -> None:
        """Take in what another pass saw."""
        self.count += other.count
        self.energy += other.energy
        np.maximum(self.peak, other.peak, out=self.peak)


def class_names(specials: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the classes: each special token, then the first token of a row, then the rest."""
    return (*specials, FIRST, OTHER)


def classify(ids: Array, mask: Array, specials: Mapping[str, int]) -> Array:
    """The class of each real token, int8 [tokens], row after row.

    Args:
        ids: int64 [B, S].
        mask: bool [B, S], True for real tokens.
        specials: token id by name, in the order of `class_names`. The first token of a row counts
            as such only where it is none of them.
    """
    classes = np.full(ids.shape, len(specials) + 1, np.int8)
    rows = np.flatnonzero(mask.any(axis=1))
    classes[rows, mask[rows].argmax(axis=1)] = len(specials)
    for index, token in enumerate(specials.values()):
        classes[ids == token] = index
    result: Array = classes[mask]
    return result
