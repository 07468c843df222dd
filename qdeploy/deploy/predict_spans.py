"""Answers to questions from windows of their contexts: a part of `predict_template.py`.

`predict_script` puts what stands in the section into the `predict.py` of question answering
engines, so that it imports nothing but what the template imports; `qdeploy.evaluate.spans` uses it
too. A window is (start, end, first, places): logits FP32 [S] of its tokens, the token at which the
context starts, and of each of its C tokens from there the characters of the context that it stands
for, int64 [C, 2].
"""

from __future__ import annotations

import sys

import numpy as np
from tokenizers import Encoding, Tokenizer

# <spans>
SpanWindow = tuple[np.ndarray, np.ndarray, int, np.ndarray]  # start, end, first, places
N_BEST = 20  # spans that share the probability
WINDOW, STRIDE, LONGEST = 384, 128, 30  # tokens at most: of a window, of two of them, of an answer


def best_spans(
    context: str, windows: list[SpanWindow], longest: int, threshold: float | None
) -> list[tuple[int, int, float]]:
    """First character, the one behind the last, and probability of the best answers, best first.

    No answer is (0, 0), where a threshold allows it: it wins where its sum of logits exceeds that
    of the best span by more than the threshold.
    """
    sums: dict[tuple[int, int], float] = {}
    none = np.inf
    for window in windows:
        none = min(none, float(window[0][0]) + float(window[1][0]))
        for place, value in best_of_window(context, window, longest).items():
            sums[place] = max(value, sums.get(place, -np.inf))
    best = sorted(sums.items(), key=lambda span: (-span[1], span[0]))[:N_BEST]
    places, values = [place for place, _ in best], [value for _, value in best]
    if threshold is not None:
        at = sum(value >= none - threshold for value in values)
        places.insert(at, (0, 0))
        values.insert(at, none)
    powers = np.exp(np.array(values) - max(values, default=0.0))
    scores = (powers / powers.sum()).tolist()
    return [(start, end, score) for (start, end), score in zip(places, scores, strict=True)]


def best_of_window(context: str, window: SpanWindow, longest: int) -> dict[tuple[int, int], float]:
    """Characters and sum of the best spans of a window; of equal ones the first."""
    places = window[3].tolist()
    own = slice(window[2], window[2] + len(places))
    begins, ends = (logits[own].astype(np.float64) for logits in window[:2])
    width = min(longest, len(places))
    behind = np.concatenate([ends, np.full(width - 1, -np.inf)])
    # [start, tokens behind it]
    sums = begins[:, None] + np.lib.stride_tricks.sliding_window_view(behind, width)
    found: dict[tuple[int, int], float] = {}
    for at in np.argsort(-sums, axis=None, kind="stable").tolist():
        start, more = divmod(at, width)
        if len(found) == N_BEST or not np.isfinite(sums[start, more]):
            break
        place = trimmed(context, places[start][0], places[start + more][1])
        if place[0] < place[1]:  # several tokens may stand for the same characters
            found.setdefault(place, float(sums[start, more]))
    return found


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters without the white space at both ends."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def windows_of(
    tokenizer: Tokenizer, rows: list[tuple[str, ...]], limit: int, side: str
) -> tuple[list[int], list[Encoding]]:
    """The tokens of each window, with the row that it is of; rows are (question, context)."""
    owners: list[int] = []
    windows: list[Encoding] = []
    limit = min(limit, WINDOW)
    for at, row in enumerate(rows):
        if len(row) != 2:
            sys.exit("This engine answers questions in their contexts: pairs of texts are needed.")
        if not row[0].strip():
            sys.exit("A question has no text.")
        tokenizer.no_truncation()
        asked = len(tokenizer.encode(row[0], add_special_tokens=False))
        room = limit - asked - tokenizer.num_special_tokens_to_add(True)
        if room < 1:
            named = f"The question '{row[0][:40]}…' has {asked} tokens"
            sys.exit(f"{named}, which leave its context no room: shorten it.")
        stride = min(STRIDE, room // 2)
        tokenizer.enable_truncation(limit, stride=stride, strategy="only_second", direction=side)
        first = tokenizer.encode(*row)
        windows += [first, *first.overflowing]
        owners += [at] * (len(windows) - len(owners))
    return owners, windows


def answer_of(
    context: str, parts: list[tuple[Encoding, list[np.ndarray]]], threshold: float | None
) -> dict[str, object]:
    """The best answer, from each window with its logits of starts and of ends."""
    windows = []
    for tokens, (start, end) in parts:
        own = [at for at, text in enumerate(tokens.sequence_ids) if text == 1]
        places = np.array([tokens.offsets[at] for at in own], np.int64).reshape(-1, 2)
        windows.append((start, end, own[0] if own else 0, places))
    best = best_spans(context, windows, LONGEST, threshold) if len(windows[0][3]) else []
    if not best:
        sys.exit(f"The context '{context[:40]}' has no text.")
    first, last, score = best[0]
    return {"answer": context[first:last], "score": score, "start": first, "end": last}


# </spans>
