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

from qdeploy.deploy.predict_spans import N_BEST as N_BEST
from qdeploy.deploy.predict_spans import best_spans
from qdeploy.types import Array


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
    parts = [(one.start, one.end, one.first, one.places) for one in windows]
    found = best_spans(context, parts, longest, threshold)
    return [Answer(context[start:end], start, end, score) for start, end, score in found]
