"""The best spans of a context, against every span tried one by one."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from qdeploy.data import windows
from qdeploy.deploy import predict_spans
from qdeploy.evaluate.options import SpanOptions
from qdeploy.evaluate.spans import N_BEST, Answer, Window, answers_in

# A token with a blank in front, a blank alone, two tokens of one character, an empty token.
CONTEXT = "Ada wrote  it in 🙂 1843 ."
PLACES = [(0, 3), (3, 9), (9, 11), (11, 13), (13, 16)]
PLACES += [(17, 18), (17, 18), (18, 18), (18, 23), (23, 25)]
BEFORE = 3  # [CLS] question [SEP]


def window(rng: np.random.Generator, first: int, last: int, none: float = 0.0) -> Window:
    """Random logits of a window of these context tokens; those outside it are the largest."""
    tokens = BEFORE + last - first + 1
    start, end = (rng.normal(0, 3, tokens).astype(np.float32) for _ in range(2))
    for logits in (start, end):
        logits[1:BEFORE] = logits[-1] = 50.0  # of the question and the last [SEP]: no answer
        logits[0] = none / 2
    return Window(start, end, BEFORE, np.array(PLACES[first:last]))


def every_span(windows: list[tuple[int, Window]], longest: int) -> dict[tuple[int, int], float]:
    """The sum of each span's logits, by characters; of one in two windows the larger."""
    found: dict[tuple[int, int], float] = {}
    for _, one in windows:
        places = one.places.tolist()
        for i, j in itertools.product(range(len(places)), repeat=2):
            if not i <= j < i + longest:
                continue
            text = CONTEXT[places[i][0] : places[j][1]]
            if not text.strip():
                continue
            begin = places[i][0] + len(text) - len(text.lstrip())
            place = begin, begin + len(text.strip())
            value = float(one.start[BEFORE + i]) + float(one.end[BEFORE + j])
            found[place] = max(value, found.get(place, -math.inf))
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_spans_are_those_of_all(seed: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    cuts = [(0, 10)] if seed % 2 else [(0, 6), (4, 10)]
    windows = [(first, window(rng, first, last)) for first, last in cuts]
    spans = every_span(windows, longest)
    wanted = sorted(spans.items(), key=lambda one: -one[1])[:N_BEST]
    found = answers_in(CONTEXT, [one for _, one in windows], longest=longest)
    assert [(a.start, a.end) for a in found] == [place for place, _ in wanted]
    assert [a.text for a in found] == [CONTEXT[start:end] for (start, end), _ in wanted]
    powers = [math.exp(value - wanted[0][1]) for _, value in wanted]
    assert [a.score for a in found] == pytest.approx([power / sum(powers) for power in powers])


def test_more_spans_than_share_the_probability() -> None:
    found = answers_in(CONTEXT, [window(np.random.default_rng(0), 0, 10)], longest=30)
    assert len(found) == N_BEST and sum(a.score for a in found) == pytest.approx(1)
    assert all(a.text == a.text.strip() != "" for a in found)


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 1.5])
def test_no_answer_is_one_where_it_has_more_in_every_window(threshold: float) -> None:
    """The least sum of the first token counts, less the threshold, against that of the best."""
    rng = np.random.default_rng(1)
    for low, high in ((-20.0, 40.0), (30.0, 35.0), (40.0, 5.0)):
        windows = [window(rng, 0, 6, none=low), window(rng, 4, 10, none=high)]
        spans = answers_in(CONTEXT, windows, longest=30)
        found = answers_in(CONTEXT, windows, longest=30, threshold=threshold)
        (own,) = (a for a in found if a.text == "")
        assert (own.start, own.end) == (0, 0) and own.score == pytest.approx(_share(found))
        assert [a.text for a in found if a.text] == [a.text for a in spans]
        best = max(every_span([(0, windows[0]), (4, windows[1])], 30).values())
        assert (found[0].text == "") == (min(low, high) - best > threshold)


def _share(found: list[Answer]) -> float:
    return 1 - sum(a.score for a in found if a.text)


def test_the_threshold_alone_decides_between_an_answer_and_none() -> None:
    one = window(np.random.default_rng(2), 0, 10, none=0.0)
    best = max(every_span([(0, one)], 30).values())
    for threshold, none in ((-best - 0.01, True), (-best + 0.01, False)):
        found = answers_in(CONTEXT, [one], longest=30, threshold=threshold)
        assert (found[0].text == "") is none
        assert sum(a.text == "" for a in found) == 1


def test_equal_spans_come_in_the_order_of_the_text() -> None:
    flat = np.zeros(BEFORE + 11, np.float32)
    found = answers_in(CONTEXT, [Window(flat, flat, BEFORE, np.array(PLACES))], longest=2)
    places = [(a.start, a.end) for a in found]
    assert places == sorted(places) and len(places) == len(set(places))
    assert {round(a.score * len(found), 6) for a in found} == {1.0}


def test_a_context_without_text_has_no_spans() -> None:
    flat = np.zeros(6, np.float32)
    assert answers_in("  x", [Window(flat, flat, 2, np.array([(0, 1), (1, 2)]))], longest=30) == []


def test_logits_far_from_zero() -> None:
    rng = random.Random(0)
    start = np.array([rng.choice([-3e38, 3e38, 0.0]) for _ in range(14)], np.float32)
    found = answers_in(CONTEXT, [Window(start, start, BEFORE, np.array(PLACES))], longest=30)
    assert all(0 <= a.score <= 1 for a in found)


def test_the_script_of_an_engine_has_the_same_limits() -> None:
    """They stand twice: the script imports nothing of qdeploy."""
    assert (predict_spans.WINDOW, predict_spans.STRIDE) == (windows.WINDOW, windows.STRIDE)
    assert SpanOptions().max_answer_length == predict_spans.LONGEST
