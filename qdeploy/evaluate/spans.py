"""The answer to a question in its context, from what each token says of being its start or its end.

The rule is that of transformers' example of question answering (`postprocess_qa_predictions` of
examples/pytorch/question-answering/utils_qa.py): the span whose start and end logits have the
largest sum over all windows of the context; and none at all where the first token, which stands for
"no answer", has more in every window (Devlin et al. 2019, arXiv 1810.04805, §4.3). Three things are
simpler here: every span of the context is looked at, not those between the 20 best starts and ends;
a span that stands in two windows counts once; and white space at its ends is not of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qdeploy.types import Array

N_BEST = 20  # spans that share the probability, as in the example


@dataclass(frozen=True)
class Answer:
    """What answers a question.

    Attributes:
        text: the context from `start` to `end`; empty where there is no answer in it.
        start, end: characters of the context; both 0 of no answer.
        score: its probability, 0 … 1: a softmax over the sums of the 20 best spans, and of no
            answer where that is allowed.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Window:
    """What an engine says of one window of a context.

    Attributes:
        start, end: logits FP32 [S] of its tokens.
        first: the token at which the context starts.
        places: int64 [C, 2], the characters that each token of the context stands for.
    """

    start: Array
    end: Array
    first: int
    places: Array


def answers_in(
    context: str,
    windows: Iterable[Window],
    *,
    longest: int,
    threshold: float | None = None,
) -> list[Answer]:
    """The best answers of a context, 20 at most, the best first.

    Args:
        context: its text.
        windows: of it, one at least.
        longest: tokens of an answer.
        threshold: no answer is one of them, and the best where its sum is above that of the best
            span by more than this; None leaves it out.
    """
    sums: dict[tuple[int, int], float] = {}
    none = np.inf
    for window in windows:
        none = min(none, float(window.start[0]) + float(window.end[0]))
        for place, value in _best(context, window, longest).items():
            sums[place] = max(value, sums.get(place, -np.inf))
    best = sorted(sums.items(), key=lambda span: (-span[1], span[0]))[:N_BEST]
    values = [value for _, value in best]
    answers = [(context[start:end], start, end) for (start, end), _ in best]
    if threshold is not None:
        at = sum(value >= none - threshold for value in values)
        answers.insert(at, ("", 0, 0))
        values.insert(at, none)
    powers = np.exp(np.array(values) - max(values, default=0.0))
    scores = (powers / powers.sum()).tolist()
    return [Answer(*answer, score) for answer, score in zip(answers, scores, strict=True)]


def _best(context: str, window: Window, longest: int) -> dict[tuple[int, int], float]:
    """Characters and sum of the best spans of a window; of equal ones the first."""
    places = window.places.tolist()
    own = slice(window.first, window.first + len(places))
    begins, ends = (logits[own].astype(np.float64) for logits in (window.start, window.end))
    width = min(longest, len(places))
    behind = np.concatenate([ends, np.full(width - 1, -np.inf)])
    # [start, tokens behind it]
    sums = begins[:, None] + np.lib.stride_tricks.sliding_window_view(behind, width)
    found: dict[tuple[int, int], float] = {}
    for at in np.argsort(-sums, axis=None, kind="stable").tolist():
        start, more = divmod(at, width)
        if len(found) == N_BEST or not np.isfinite(sums[start, more]):
            break
        place = _trimmed(context, places[start][0], places[start + more][1])
        if place[0] < place[1]:  # several tokens may stand for the same characters
            found.setdefault(place, float(sums[start, more]))
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters without the white space at both ends."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
