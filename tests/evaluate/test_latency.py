"""Timing at a fixed shape, alternating rounds, and the interval of their ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.errors import DataError, PlanError
from qdeploy.evaluate.latency import (
    LatencyProtocol,
    fixed_feeds,
    measure_alternating,
    medians_of_draws,
    ranks_left_out,
    ratio_of_medians,
    summary,
)
from qdeploy.evaluate.rounds import ITERATIONS, WARMUP
from qdeploy.machine.threads import usable_cores
from tests.evaluate.bag import MAX_LENGTH, BagEngine, table, tokenizer

ENCODER = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, MAX_LENGTH))
SMALL = LatencyProtocol(batch_size=3, seq_len=16, warmup=4, iterations=25, threads=1)
FEEDS = fixed_feeds(ENCODER, rows_from_texts(["yes w1", "no"]), SMALL)


def test_defaults_are_the_papers() -> None:
    protocol = LatencyProtocol()
    assert (protocol.batch_size, protocol.seq_len) == (8, 128)
    assert (WARMUP, ITERATIONS) == (100, 500)
    assert (protocol.warmup, protocol.iterations, protocol.seconds) == (None, None, 30)
    assert protocol.threads == usable_cores()


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [("batch_size", 0, 1), ("seq_len", 0, 1), ("iterations", 0, 1), ("warmup", -1, 0)],
)
def test_impossible_protocols(field: str, value: int, least: int) -> None:
    with pytest.raises(PlanError, match=f"{field} is {value}, and at least {least} is needed"):
        LatencyProtocol(**{field: value})


def test_feeds_have_exactly_the_shape_and_no_padding() -> None:
    assert {name: feed.shape for name, feed in FEEDS.items()} == {
        "input_ids": (3, 16),
        "attention_mask": (3, 16),
    }
    np.testing.assert_array_equal(FEEDS["input_ids"][0], FEEDS["input_ids"][2])
    assert FEEDS["attention_mask"].all()  # or engines that leave padding out would seem faster
    pairs = rows_from_texts([("yes", "no w1"), ("w1", "w2")])
    both = fixed_feeds(ENCODER, pairs, SMALL)
    assert both["attention_mask"].all()
    with pytest.raises(DataError, match=f"the model takes at most {MAX_LENGTH}"):
        fixed_feeds(ENCODER, rows_from_texts(["yes"]), LatencyProtocol(seq_len=128))


def test_one_engine_runs_warmup_and_iterations() -> None:
    engine = BagEngine(table(), pause_ms=1)
    calls: list[tuple[str, int, int]] = []
    times = np.concatenate(
        measure_alternating([(engine, FEEDS)], SMALL, lambda *a: calls.append(a)).rounds[0]
    )
    assert times.shape == (25,) and (times >= 1).all()
    assert len(engine.shapes) == 4 + 25 and set(engine.shapes) == {(3, 16)}
    assert calls[-1] == ("latency", 25, 25)


def test_two_engines_alternate() -> None:
    order: list[str] = []

    class Named(BagEngine):
        def __init__(self, name: str) -> None:
            super().__init__(table())
            self.name = name

        def run(self, feeds: object) -> dict[str, np.ndarray]:
            order.append(self.name)
            return {}

    protocol = LatencyProtocol(warmup=1, iterations=40)
    times = measure_alternating([(Named("a"), {}), (Named("b"), {})], protocol)
    assert "".join(order) == "ab" + "aabbbbaa" * 10
    assert [sum(map(len, rounds)) for rounds in times.rounds] == [40, 40]


def test_summary_is_numpys() -> None:
    found = summary([np.arange(0.0, 50), np.arange(50.0, 101)])
    assert found == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "mean": 50}


def drawn(seed: int, scale: float = 1.0, rounds: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [scale * (10 + rng.exponential(1, 10)) for _ in range(rounds)]


def test_ratio_holds_the_truth_and_is_reproducible() -> None:
    ratio, low, high = ratio_of_medians(drawn(10, scale=3), drawn(11), seed=0)
    assert low < 3 < high and low <= ratio <= high
    assert high - low < 0.2
    assert (ratio, low, high) == ratio_of_medians(drawn(10, scale=3), drawn(11), seed=0)
    assert (low, high) != ratio_of_medians(drawn(10, scale=3), drawn(11), seed=1)[1:]


def test_ratio_of_equal_engines_covers_one() -> None:
    """Over seeds, the 95 % interval leaves out the true ratio about once in twenty."""
    missed = 0
    for seed in range(40):
        _, low, high = ratio_of_medians(drawn(2 * seed), drawn(2 * seed + 1))
        missed += not low <= 1 <= high
    assert missed <= 6


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_medians_of_draws_equal_those_of_built_draws(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rounds = [rng.integers(0, 9, size).astype(float) for size in sizes]
    counts = rng.multinomial(len(rounds), [1 / len(rounds)] * len(rounds), 5)
    built = [
        np.concatenate([t for t, n in zip(rounds, row, strict=True) for _ in range(n)])
        for row in counts
    ]
    found = medians_of_draws(rounds, counts)
    np.testing.assert_allclose(found, [np.median(draw) for draw in built])


def test_load_that_both_meet_leaves_the_ratio() -> None:
    """A machine that turns slow half way slows both engines of a round."""
    slow = np.repeat([1.0, 4.0], 20)
    baseline = [2 * mood * times for mood, times in zip(slow, drawn(0), strict=True)]
    engine = [mood * times for mood, times in zip(slow, drawn(1), strict=True)]
    ratio, low, high = ratio_of_medians(baseline, engine)
    assert low <= ratio <= high
    assert low > 1.5 and high < 2.7


@pytest.mark.parametrize("rounds", [6, 9, 15, 19])
def test_few_rounds_have_an_interval_that_holds_what_it_says(rounds: int) -> None:
    """Of 400 pairs of equal engines, the interval leaves out the true ratio in 5 % at most."""
    missed = 0
    for seed in range(400):
        rng = np.random.default_rng([rounds, seed])
        times = [[10 + rng.exponential(1, 1) for _ in range(rounds)] for _ in range(2)]
        ratio, low, high = ratio_of_medians(times[0], times[1])
        assert low <= ratio <= high
        missed += not low <= 1 <= high
    assert missed <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5  # three standard deviations


@given(st.integers(1, 60))
def test_ranks_leave_out_no_more_than_they_may(count: int) -> None:
    left_out = ranks_left_out(count)
    assert 0 <= 2 * left_out < count
    tail = sum(math.comb(count, at) for at in range(left_out + 1)) / 2**count
    assert count < 6 or 2 * tail <= 0.05
    assert 2 * (tail + math.comb(count, left_out + 1) / 2**count) > 0.05
