"""The Pareto front and the choice within a drop, against their definitions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qdeploy.schemas.sweep import Ranked, metric_of
from qdeploy.sweep.compare import cheapest, pareto, suggested


def entries(*pairs: tuple[float, float]) -> list[Ranked]:
    return [
        {
            "key": str(i),
            "accuracy": a,
            "relative": ms,
            "drop": 0.9 - a,
            "mcnemar_p": 1.0,
            "constant_predictor": False,
        }
        for i, (a, ms) in enumerate(pairs)
    ]


def test_a_front() -> None:
    found = entries((0.90, 10), (0.89, 5), (0.88, 6), (0.90, 12), (0.5, 1))
    assert pareto(found) == ["4", "1", "0"]


def test_equals_both_stand() -> None:
    assert sorted(pareto(entries((0.9, 5), (0.9, 5)))) == ["0", "1"]


points = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(points)
def test_whoever_is_left_out_is_beaten_by_the_front(pairs: list[tuple[int, int]]) -> None:
    found = entries(*pairs)
    front = set(pareto(found))
    for entry in found:
        beaten = [
            other
            for other in found
            if other["accuracy"] >= entry["accuracy"]
            and other["relative"] <= entry["relative"]
            and (other["accuracy"], other["relative"]) != (entry["accuracy"], entry["relative"])
        ]
        assert (entry["key"] in front) == (not beaten)
        assert not beaten or any(other["key"] in front for other in beaten)


def test_the_baseline_is_no_plan_to_take() -> None:
    found = entries((0.90, 10), (0.80, 5))  # FP32 first, as `result_of` has it
    assert cheapest(found[1:], 0.3) is None


def test_what_to_build_where_no_drop_was_named() -> None:
    """(drop, p, time, constant) of each; the fastest that loses nothing, else the best."""
    table: list[tuple[list[tuple[float, float, float, bool]], str | None]] = [
        ([(0.0, 1, 3, False), (0.01, 0.3, 2, False), (0.1, 0.001, 1, False)], "1"),
        ([(0.02, 0.01, 3, False), (0.1, 0.001, 1, False)], "0"),
        ([(-0.01, 0.01, 2, False), (0.0, 1, 1, True)], "0"),
        ([(0.0, 1, 1, True)], None),
        ([], None),
    ]
    for rows, expected in table:
        found: list[Ranked] = [
            {"key": str(at), "accuracy": 0.9 - drop, "drop": drop, "mcnemar_p": p,
             "relative": time, "constant_predictor": constant}
            for at, (drop, p, time, constant) in enumerate(rows)
        ]  # fmt: skip
        chosen = suggested(found)
        assert (chosen and chosen[0]) == expected


def test_a_tasks_own_metric_is_in_place_of_accuracy() -> None:
    """The more accurate of two has the lower metric."""
    found = entries((0.8, 10), (0.79, 6), (0.7, 5))
    for entry, value, low in zip(found, (0.6, 0.5, 0.59), (0.0, 0.05, -0.01), strict=True):
        ends = {"ci95": [value, value], "baseline": 0.6, "drop_ci95": [low, 0.2]}
        entry["judging"] = {"name": "MCC", "value": value, "drop": 0.6 - value, **ends}
    assert metric_of(found) == "MCC"
    assert pareto(found) == ["2", "0"]
    assert suggested(found[1:]) == (
        "2",
        "the fastest of those whose drop cannot be told from none",
    )
    assert suggested(found[1:2]) == ("1", "the highest MCC; each loses some of it")
    assert cheapest(found[1:], 1) == "2" and cheapest(found[1:], 0.5) is None


def test_the_cheapest_within_a_drop() -> None:
    found = entries((0.90, 10), (0.897, 5), (0.88, 2))
    assert cheapest(found, 0.3) == "1"  # a drop of exactly the limit holds
    assert cheapest(found, 2.5) == "2"
    assert cheapest(found, 0.1) == "0"
    assert cheapest(entries((0.5, 1)), 1) is None
