"""How far the outputs of an engine are from FP32's, measured on a few rows.

Every site can be below the noise target and the logits be noise all the same: the noise of the
sites adds up from layer to layer. Only a run of the whole engine shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qdeploy.calibrate.batches import MASK, Sample
from qdeploy.head import MULTI_LABEL, Head
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array

Outputs = Sequence[Mapping[str, Array]]  # FP32, by output name, one entry a batch


class Runs(Protocol):
    """What `outputs_of` needs of an engine."""

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]: ...


@dataclass(frozen=True)
class Difference:
    """Outputs of an engine against those of FP32, without the padding.

    Attributes:
        sqnr_db: of `qdeploy.sqnr.logit_sqnr_db`, over all outputs. +inf where they are equal, −inf
            where an output is not finite.
        max_abs: largest difference of an output.
        flipped: answers that are other ones (rows; tokens of a token classifier); None where the
            head answers with values.
        answers: how many there are; 0 where the head answers with values.
    """

    sqnr_db: float
    max_abs: float
    flipped: int | None
    answers: int


def outputs_of(engine: Runs, sample: Sample) -> Outputs:
    """Outputs of every batch."""
    return [engine.run(feeds) for feeds in sample.batches]


def difference(reference: Outputs, found: Outputs, sample: Sample, head: Head) -> Difference:
    """Compare the outputs of two engines on the same batches."""
    largest = 0.0
    flipped = answers = 0
    both: dict[str, list[tuple[Array, Array]]] = {}
    for exact, other, feeds in zip(reference, found, sample.batches, strict=True):
        own = own_tokens(feeds)
        for name in head.answers:
            a, b = (kept(outputs[name], own, head) for outputs in (exact, other))
            error = np.abs(a.astype(np.float64) - b)
            largest = float(np.fmax(largest, error.max(initial=0.0)))
            both.setdefault(name, []).append((a, b))
        before, after = _answers(exact, own, head), _answers(other, own, head)
        flipped += int((before != after).any(axis=-1).sum())
        answers += len(before)
    outputs = [
        (np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
        for parts in both.values()
    ]
    level = logit_sqnr_db(outputs, exclusive=head.exclusive)
    return Difference(level, largest, flipped if answers else None, answers)


def own_tokens(feeds: Mapping[str, Array]) -> Array:
    """Which tokens are not padding, bool [B, S]."""
    if MASK in feeds:
        own: Array = feeds[MASK] == 1
        return own
    return np.ones(next(iter(feeds.values())).shape, bool)


def kept(values: Array, own: Array, head: Head) -> Array:
    """What belongs to a row ([B, classes]), or to its own tokens ([tokens, ...])."""
    return values if head.of_rows else values[own]


def _answers(outputs: Mapping[str, Array], own: Array, head: Head) -> Array:
    """What is answered, int64 [answers, parts]; no rows where the head answers with values."""
    if head.of_rows:
        logits = outputs[head.answers[0]]
        if head.problem_type == MULTI_LABEL:
            present: Array = (logits > 0).astype(np.int64)
            return present
        best: Array = logits.argmax(axis=-1)[:, None]
        return best if head.chooses else best[:0]
    if "logits" in outputs:
        best = outputs["logits"][own].argmax(axis=-1)[:, None]
        return best
    spans = [np.where(own, outputs[name], -np.inf).argmax(axis=1) for name in head.answers]
    return np.stack(spans, axis=1)
