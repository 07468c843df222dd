"""Tokens of a text put together to entities, by the strategies of transformers.

`none` tells each token. `simple` puts neighbours of one type together. `first`, `average` and `max`
let the tokens of a word agree beforehand: on what the first says, on the mean of their
probabilities, or on the most certain one (TokenClassificationPipeline of transformers 5.23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from qdeploy.data.tokenize import Token
from qdeploy.evaluate.answers import Entity
from qdeploy.types import Array

NONE, SIMPLE, FIRST, AVERAGE, MAX = "none", "simple", "first", "average", "max"
STRATEGIES = (NONE, SIMPLE, FIRST, AVERAGE, MAX)

# Probabilities of the tokens of a word, FP [T, classes] → of the word, FP [classes].
_AGREE: dict[str, Callable[[Array], Array]] = {
    FIRST: lambda scores: scores[0],
    AVERAGE: lambda scores: scores.mean(axis=0),
    MAX: lambda scores: scores[int(np.argmax(scores.max(axis=1)))],
}


def aggregated(
    text: str,
    tokens: Sequence[Token | None],
    scores: Array,
    labels: Sequence[str],
    strategy: str,
    *,
    continues: Callable[[str, Token], bool],
) -> list[Entity]:
    """The entities of a text, those of class "O" too.

    Args:
        text: of the row.
        tokens: of the row; None for special ones.
        scores: probabilities FP [S, classes].
        labels: class names by index.
        strategy: of `STRATEGIES`, but "none".
        continues: whether a token of the text goes on with the word of the one before it.

    Returns:
        In the order of the text. `label` is the type without B- or I-, `score` the mean over the
        words, or tokens, that were put together; `word` is the text itself, where transformers
        writes the tokens one behind the other.
    """
    kept = [(at, token) for at, token in enumerate(tokens) if token is not None]
    groups: list[list[int]] = []
    for at, token in kept:
        if strategy != SIMPLE and groups and continues(text, token):
            groups[-1].append(at)
        else:
            groups.append([at])
    agree = _AGREE.get(strategy, _AGREE[FIRST])
    known, parts = dict(kept), []
    for group in groups:
        start, end, own = known[group[0]].start, known[group[-1]].end, agree(scores[group])
        best = int(np.argmax(own))
        parts.append(Entity(labels[best], float(own[best]), text[start:end], group[0], start, end))
    return _joined(text, parts)


def _joined(text: str, parts: list[Entity]) -> list[Entity]:
    """Neighbours of one type as one entity; a B- begins another."""
    starts = [0] + [at for at, pair in enumerate(pairwise(parts), 1) if _begins(*pair)]
    ends = [*starts[1:], len(parts)]
    found = []
    for start, end in zip(starts, ends, strict=True) if parts else ():
        group = parts[start:end]
        first, last = group[0], group[-1]
        score = float(np.mean([one.score for one in group]))
        word = text[first.start : last.end]
        found.append(
            replace(first, label=_type(first.label)[1], score=score, word=word, end=last.end)
        )
    return found


def _begins(before: Entity, own: Entity) -> bool:
    prefix, kind = _type(own.label)
    return prefix == "B" or kind != _type(before.label)[1]


def _type(label: str) -> tuple[str, str]:
    """Prefix and type; of a name without a prefix I and the name."""
    return (label[0], label[2:]) if label.startswith(("B-", "I-")) else ("I", label)
