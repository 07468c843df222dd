"""Work that changes no answer is left out of a lowered graph: padding, and tokens nobody reads.

Both rewrites are exact, and both are proved on every model before they are kept: in FP32 against
the canonical graph, where only roundings of FP32 may differ, and in the lowered graph, where a
rounding to 8 bits that flips may move an output, but by no more than twice the noise that the
roundings make anyway. The batches of the proof have what real ones have, and worse: holes in the
mask, rows that begin with padding, a row of nothing else, columns that no row uses.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.passes.equivalence import (
    TOLERANCE,
    ModelInputs,
    Reference,
    largest_difference,
    random_feeds,
    run_real,
)
from qdeploy.deploy.passes.key_masks import mask_keys
from qdeploy.deploy.passes.remove_padding import remove_padding
from qdeploy.deploy.passes.remove_unread import remove_unread
from qdeploy.graph.editor import GraphEditor
from qdeploy.types import Array

_TOKENS = 23  # of a row: no number of classes, so that token-level outputs are known by their shape
_MASK, _IDS = "attention_mask", "input_ids"
# What flipped roundings may move an output by, over what all roundings do: few flip, but a narrow
# model has few. A tensor in a wrong place moves it by as much as another row's answer would.
_FLIPS = 2.0
_DIFFERS = "without it the outputs are others: something in the model reads it"


@dataclass(frozen=True)
class LeftOut:
    """A lowered graph without some of its work.

    Attributes:
        model: the graph that was given where nothing was left out, else another.
        unread: nodes that run on one token a row.
        padding: whether padding is left out.
        reason: why padding is not, where it was wanted.
    """

    model: ir.Model
    unread: int = 0
    padding: bool = False
    reason: str = ""


def leave_out(
    lowered: ir.Model, canonical: ir.Model, inputs: ModelInputs, *, padding: bool
) -> LeftOut:
    """Take out of a lowered graph what changes no answer.

    Args:
        lowered: the graph; it is not changed.
        canonical: the FP32 graph that it was made of; it is not changed.
        inputs: of both.
        padding: leave padding out, too.
    """
    proof = _Proof(lowered, canonical, inputs)
    # the unread tokens first: what they narrow is no tensor of all tokens afterwards
    exact, (narrow, unread) = _without_unread(canonical)[0], _without_unread(lowered)
    if not unread or not proof.holds(narrow, exact):
        narrow, exact, unread = lowered, canonical, 0
    if not padding:
        return LeftOut(narrow, unread)
    packed, reason = _without_padding(narrow, proof.feeds)
    if not reason and not proof.holds(packed, _without_padding(exact, proof.feeds)[0]):
        reason = _DIFFERS
    return LeftOut(narrow if reason else packed, unread, padding=not reason, reason=reason)


def _without_unread(model: ir.Model) -> tuple[ir.Model, int]:
    changed = _ordered(model)
    tokens = next((v for v in changed.graph.inputs if v.name == _IDS), None)
    return changed, 0 if tokens is None else remove_unread(changed, tokens)


def _without_padding(model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> tuple[ir.Model, str]:
    changed = _ordered(model)
    mask_keys(changed, feeds, _MASK)
    return changed, remove_padding(changed, _MASK, _IDS)


def _ordered(model: ir.Model) -> ir.Model:
    """A clone whose nodes stand in order."""
    # lowerings append; `TokenAxes` reads makers before readers
    return GraphEditor(model.clone()).finish()


class _Proof:
    """Holds rewritten graphs against the ones they were made of; each original runs once.

    Attributes:
        feeds: batches of the proof (`hard_feeds`).
    """

    def __init__(self, lowered: ir.Model, canonical: ir.Model, inputs: ModelInputs) -> None:
        self._lowered, self.feeds = lowered, hard_feeds(canonical, inputs)
        self._reference = Reference(canonical, *self.feeds, real_only=True)

    @functools.cached_property
    def _outputs(self) -> list[Array]:
        """Of the lowered graph as it was."""
        return run_real(self._lowered, self.feeds)

    def holds(self, changed: ir.Model, exact: ir.Model) -> bool:
        """Whether rewrites change nothing.

        Args:
            changed: the lowered graph after them.
            exact: the canonical graph after the same.
        """
        # FP32 first: no quantization noise hides a wrong gather there
        if not self._reference.compare(exact).within(None):
            return False
        # sums in another order flip roundings
        noise = largest_difference(self._reference.outputs, self._outputs)
        found = run_real(changed, self.feeds)
        return largest_difference(self._outputs, found) <= max(_FLIPS * noise, TOLERANCE)


def hard_feeds(model: ir.Model, inputs: ModelInputs) -> Sequence[Mapping[str, Array]]:
    """Two batches of random tokens, int64 [B, S ≤ 23], with every kind of mask there is."""
    length = min(_TOKENS, inputs.max_length)
    column, rng = np.arange(length), np.random.default_rng(0)
    holes = rng.random(length) < 0.6
    holes[0] = True
    mixed = [
        np.ones(length, bool),
        column < max(1, length // 3),
        holes,
        column >= length // 2,  # begins with padding
        np.zeros(length, bool),
    ]
    # the last columns are used by no row
    short = [column < max(1, length // 2), column < 1, holes & (column < max(1, length // 3))]
    return [random_feeds(model, inputs, np.array(rows), rng) for rows in (mixed, short)]
