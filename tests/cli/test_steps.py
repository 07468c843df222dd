"""Which steps run and which have ended, from what a progress callback is told."""

from __future__ import annotations

import pytest

from qdeploy.cli.steps import Step, Steps, duration


def told(*calls: tuple[str, int, int]) -> tuple[list[str], list[str]]:
    """Steps that ended, in order, and those that still run; a second passes before each call."""
    steps, ended = Steps(), []
    for at, (name, done, total) in enumerate(calls):
        ended += [step.name for step in steps.update(name, done, total, float(at))[1]]
    return ended, [step.name for step in steps.running]


def test_a_step_that_cannot_be_counted_ends_when_another_begins() -> None:
    assert told(("plan", 0, 1), ("lower", 0, 0), ("write", 0, 1)) == (["plan", "lower"], ["write"])
    assert told(("load", 0, 1), ("load", 1, 1)) == (["load"], [])


def test_a_counted_step_lasts_until_all_is_done() -> None:
    within = (("rows", 0, 3), ("a", 0, 1), ("rows", 1, 3), ("b", 0, 0), ("rows", 2, 3))
    assert told(*within) == (["a", "b"], ["rows"])
    assert told(*within, ("rows", 3, 3)) == (["a", "b", "rows"], [])


def test_an_end_that_is_told_twice_is_one_end() -> None:
    assert told(("rows", 3, 3), ("rows", 3, 3)) == (["rows"], [])


def test_a_step_may_come_again() -> None:
    assert told(("a", 0, 2), ("a", 2, 2), ("a", 1, 2), ("a", 2, 2)) == (["a", "a"], [])


def test_more_than_all_is_an_end() -> None:
    assert told(("rows", 5, 3)) == (["rows"], [])


def test_a_step_keeps_its_time() -> None:
    steps = Steps()
    steps.update("a", 0, 4, 10.0)
    assert steps.running[0].left(12.0) is None  # nothing is done yet
    steps.update("a", 1, 4, 15.0)
    assert steps.running[0].left(16.0) == 18.0
    _, ended = steps.update("a", 4, 4, 30.0)
    assert ended[0].elapsed(99.0) == 20.0


def test_what_is_left_is_not_guessed() -> None:
    assert Step("a", 0.0, 1, 1).left(9.0) is None and Step("a", 0.0, 0, 0).left(9.0) is None
    assert Step("a", 0.0, 1, 10).left(1.0) is None  # too early


def test_closing_ends_the_innermost_first() -> None:
    steps = Steps()
    for name in ("outer", "inner"):
        steps.update(name, 0, 9, 0.0)
    assert [step.name for step in steps.close(1.0)] == ["inner", "outer"]
    assert steps.running == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.9, "1 h 00 min"),
        (61, "1 min 01 s"),
    ],
)
def test_times_carry_over(seconds: float, text: str) -> None:
    assert duration(seconds) == text
