"""What an engine's noise does to rows it has not seen: a drop that is not chance.

A few hundred rows cannot tell a drop of 0.3 points from luck by counting: one flipped row is 0.2
points. The noise itself can be told: the difference of the outputs is drawn anew from other rows,
many times, and the drop averaged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qdeploy.schemas.autotune import DropFields
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array

_MOST_DB = 300.0  # stands for what is equal: JSON has no infinity
_DRAWS = 400
LEAST_COSINE = 0.99  # of embeddings, on average: what their cosines with each other can bear
_SIGMAS = 2.0  # a measured drop may lie this many of its standard errors above what is allowed


@dataclass(frozen=True)
class DropEstimate:
    """Points of accuracy, or hundredths of another metric, lost on held-out rows.

    Attributes:
        expected_drop: with the noise of other rows, averaged over many draws; where the rows have
            no labels every flipped answer counts as lost.
        measured_drop: of the rows as they are.
        standard_error: of the measured drop: √(flipped rows) / rows, or by a paired bootstrap.
        sqnr_db: of the outputs (`qdeploy.sqnr`), within ± 300.
        cosine: of embeddings: the mean cosine of a text to FP32's; None of other heads.
    """

    expected_drop: float
    measured_drop: float
    standard_error: float
    sqnr_db: float
    cosine: float | None = None

    def holds(self, max_drop: float) -> bool:
        """Whether it loses no more than that: as expected, and not plainly more as measured."""
        plainly = self.measured_drop - _SIGMAS * self.standard_error
        near = self.cosine is None or self.cosine >= LEAST_COSINE
        return self.expected_drop <= max_drop and plainly <= max_drop and near

    def to_json(self) -> DropFields:
        """For the report."""
        found: DropFields = {
            "expected_drop": round(self.expected_drop, 4),
            "measured_drop": round(self.measured_drop, 4),
            "standard_error": round(self.standard_error, 4),
            "sqnr_db": round(self.sqnr_db, 4),
        }
        if self.cosine is not None:
            found["cosine"] = round(self.cosine, 6)
        return found


def level_of(outputs: Iterable[tuple[Array, Array]], *, exclusive: bool) -> float:
    """`qdeploy.sqnr.logit_sqnr_db` within what a report holds."""
    return min(max(logit_sqnr_db(outputs, exclusive=exclusive), -_MOST_DB), _MOST_DB)


def estimate_drop(
    reference: Array, found: Array, gold: Array | None, seed: int = 0
) -> DropEstimate:
    """Compare an engine's logits with FP32's.

    Args:
        reference, found: FP32 [N, classes].
        gold: int [N]; None where the rows have no labels.
        seed: of the draws.
    """
    exact = reference.astype(np.float64)
    noise = found.astype(np.float64) - exact
    own = exact.argmax(axis=1)
    truth = own if gold is None else gold
    right, rows = int((own == truth).sum()), len(own)
    rng = np.random.default_rng(seed)
    kept = [
        int((_answers(exact + noise[rng.integers(0, rows, rows)]) == truth).sum())
        for _ in range(_DRAWS)
    ]
    flipped = int((found.argmax(axis=1) != own).sum())
    return DropEstimate(
        expected_drop=100 * (right - float(np.mean(kept))) / rows,
        measured_drop=100 * (right - int((found.argmax(axis=1) == truth).sum())) / rows,
        standard_error=100 * float(np.sqrt(max(flipped, 1))) / rows,
        sqnr_db=level_of([(exact, found)], exclusive=True),
    )


def _answers(logits: Array) -> Array:
    result: Array = logits.argmax(axis=1)
    return result
