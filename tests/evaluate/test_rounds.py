"""How many runs are timed: so many as were asked for, or as many as a time allows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.errors import PlanError
from qdeploy.evaluate import rounds
from qdeploy.evaluate.rounds import ITERATIONS, LEAST_ROUNDS, Pace, alternate, round_sizes


class Clock:
    """A clock that only runs move on, in place of `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.order: list[tuple[str, int]] = []
        monkeypatch.setattr(rounds, "time", self)

    def monotonic(self) -> float:
        return self.now

    def engine(self, name: str, ms: float) -> Any:
        def run(first: int, runs: int) -> Any:
            self.now += runs * ms / 1000
            self.order += [(name, at) for at in range(first, first + runs)]
            return np.full(runs, ms)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@given(st.integers(1, 2000))
def test_rounds_add_up(iterations: int) -> None:
    sizes = round_sizes(iterations)
    assert sum(sizes) == iterations
    assert max(sizes) <= 10
    assert len(sizes) >= min(20, iterations)


def test_what_was_asked_for_is_what_is_run_however_long_it_takes(clock: Clock) -> None:
    pace = Pace(warmup=3, iterations=7, seconds=0.001)
    found = alternate([clock.engine("a", 1000), clock.engine("b", 2000)], pace)
    assert (found.warmup, found.iterations, found.ended_by_time) == (3, 7, False)
    assert found.seconds == pytest.approx(10 * 3)
    names = "".join(name for name, _ in clock.order)
    assert names == "aaabbb" + "abba" * 3 + "ab"
    assert [at for name, at in clock.order if name == "a"] == [0, 1, 2, *range(7)]


def test_fast_engines_run_as_often_as_in_the_paper(clock: Clock) -> None:
    found = alternate([clock.engine("a", 1), clock.engine("b", 2)], Pace(seconds=30))
    assert (found.warmup, found.iterations, found.ended_by_time) == (100, 500, False)
    assert found.seconds == pytest.approx(600 * 0.003)
    assert {len(times) for rounds in found.rounds for times in rounds} == {10}


def test_time_ends_the_runs(clock: Clock) -> None:
    found = alternate([clock.engine("a", 50), clock.engine("b", 100)], Pace(seconds=15))
    assert found.ended_by_time and found.seconds <= 15
    assert 70 < found.iterations < 100 and 5 < found.warmup <= 15
    assert len(found.rounds[0]) == len(found.rounds[1]) >= 20


@pytest.mark.parametrize("seconds", [0, 1, 15])
def test_slow_engines_run_one_warm_up_and_six_rounds(clock: Clock, seconds: float) -> None:
    """A BERT-large on a slow machine: 4 s and 2 s a run."""
    found = alternate([clock.engine("a", 4000), clock.engine("b", 2000)], Pace(seconds=seconds))
    assert (found.warmup, found.iterations) == (1, LEAST_ROUNDS)
    assert found.ended_by_time and found.seconds == pytest.approx(7 * 6)


def test_one_of_the_two_may_be_asked_for(clock: Clock) -> None:
    found = alternate([clock.engine("a", 1000)], Pace(warmup=0, seconds=10))
    assert found.warmup == 0 and 6 <= found.iterations <= 10 and found.ended_by_time
    found = alternate([clock.engine("a", 1000)], Pace(iterations=20, seconds=10))
    assert (found.warmup, found.iterations, found.ended_by_time) == (1, 20, False)


def test_a_machine_that_becomes_slow_is_noticed(clock: Clock) -> None:
    """Warm-up promised 500 runs; the time ends them all the same."""
    ms = iter([*[1.0] * 100, *[1000.0] * 5000])

    def run(first: int, runs: int) -> Any:
        times = np.array([next(ms) for _ in range(runs)])
        clock.now += times.sum() / 1000
        return times

    found = alternate([run], Pace(seconds=30))
    assert found.ended_by_time and found.iterations == LEAST_ROUNDS * 10


@pytest.mark.parametrize("pace", [Pace(seconds=1), Pace(0, 7), Pace(seconds=0)])
def test_progress_ends_where_the_runs_do(clock: Clock, pace: Pace) -> None:
    calls: list[tuple[str, int, int]] = []
    found = alternate([clock.engine("a", 30)], pace, lambda *a: calls.append(a), "stage")
    assert all(0 < done <= total for _, done, total in calls)
    assert calls[-1] == ("stage", found.iterations, found.iterations)
    before = [(done, total) for stage, done, total in calls if stage == "stage, warm-up"]
    assert (before[-1][0] == before[-1][1]) if found.warmup else not before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -1}, "warmup is -1, and at least 0 is needed"),
        ({"iterations": 0}, "iterations is 0, and at least 1 is needed"),
        ({"seconds": -1.0}, "seconds is -1, and 0 or more was expected"),
        ({"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_impossible_paces(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pace(**options)


def test_real_time_bounds_real_runs() -> None:
    """Sleeps of a millisecond: bounded by the time, and never more than 500."""

    def run(first: int, runs: int) -> Any:
        time.sleep(runs / 1000)
        return np.ones(runs)

    found = alternate([run, run], Pace(seconds=0.2))
    assert LEAST_ROUNDS <= found.iterations < ITERATIONS and found.ended_by_time
