"""What rounding did to the logits: their signal to noise ratio, and answers that change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.head import MULTI_LABEL, TOKENS, Head
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array

_MOST_DB = 200.0  # stands for what is equal: JSON has no infinity
_SHIFTS = 64  # rows whose noise each row is tried with


@dataclass(frozen=True)
class Outcome:
    """Logits of one run against FP32's.

    Attributes:
        sqnr_db: of `qdeploy.sqnr.logit_sqnr_db`, within ± 200.
        flipped: answers that are other ones; None where the head answers with values.
        flip_percent: answers expected to change, percent: the noise of each row is tried on the
            other rows too, so that it tells more than a count. No larger share turns wrong. None
            as above.
    """

    sqnr_db: float
    flipped: int | None
    flip_percent: float | None


class Reference:
    """FP32's logits, and what is compared with them.

    Args:
        logits: FP32 [B, …] of each batch.
        masks: int64 [B, S] of each batch: which tokens are no padding.
        head: what the logits mean.
    """

    def __init__(self, logits: Sequence[Array], masks: Sequence[Array], head: Head) -> None:
        self._masks, self._head = masks, head
        self._flat = self._of_answers(logits)
        self._answers = self._choose(self._flat)

    @property
    def answers(self) -> int | None:
        """How many answers there are; None where the head answers with values."""
        return None if self._answers is None else len(self._answers)

    def compare(self, logits: Sequence[Array]) -> Outcome:
        """The outcome of a run on the same batches."""
        found = self._of_answers(logits)
        level = logit_sqnr_db([(self._flat, found)], exclusive=self._head.exclusive)
        sqnr_db = round(min(max(level, -_MOST_DB), _MOST_DB), 2)
        if self._answers is None:
            return Outcome(sqnr_db, None, None)
        flips = _differ(self._answers, self._chosen(found))
        return Outcome(sqnr_db, int(flips.sum()), round(self._expected(found - self._flat), 2))

    def _expected(self, noise: Array) -> float:
        """Percent of answers that change when each gets the noise of others; [N, classes]."""
        rows = len(noise)
        if not rows:
            return 0.0
        steps = np.unique(np.linspace(0, rows - 1, min(rows, _SHIFTS)).astype(int))
        changed = [
            _differ(self._chosen(self._flat), self._chosen(self._flat + np.roll(noise, s, axis=0)))
            for s in steps
        ]
        return 100 * float(np.mean(changed))

    def _of_answers(self, logits: Sequence[Array]) -> Array:
        """Logits of every answer, or of every token, float64 [N, classes]; without padding."""
        if not self._head.of_rows:
            kept = [a[m == 1] for a, m in zip(logits, self._masks, strict=True)]
        else:
            kept = [a.reshape(len(a), -1) for a in logits]
        result: Array = np.concatenate(kept).astype(np.float64)
        return result

    def _choose(self, logits: Array) -> Array | None:
        known = self._head.task == TOKENS or self._head.chooses
        multi = self._head.of_rows and self._head.problem_type == MULTI_LABEL
        return self._chosen(logits) if known or multi else None

    def _chosen(self, logits: Array) -> Array:
        """What is answered, [N, parts]: the best class, or of several labels those that hold."""
        if self._head.problem_type == MULTI_LABEL:
            present: Array = logits > 0
            return present
        best: Array = logits.argmax(axis=1)[:, None]
        return best


def _differ(one: Array, other: Array) -> Array:
    """Which answers are not the same, bool [N]."""
    result: Array = (one != other).any(axis=1)
    return result
