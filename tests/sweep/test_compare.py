"""The Pareto front and the choice within a drop, against their definitions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qdeploy.schemas.sweep import Ranked
from qdeploy.sweep.compare import cheapest, pareto, suggested


def entries(*pairs: tuple[float, float]) -> list[Ranked]:
    return [
        {
            "key": str(i),
            "metric": "accuracy",
            "value": a,
            "relative": ms,
            "drop": 0.9 - a,
            "drop_ci95": None,
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
            if other["value"] >= entry["value"]
            and other["relative"] <= entry["relative"]
            and (other["value"], other["relative"]) != (entry["value"], entry["relative"])
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
            {"key": str(at), "metric": "accuracy", "value": 0.9 - drop, "drop": drop,
             "drop_ci95": None, "mcnemar_p": p, "relative": time, "constant_predictor": constant}
            for at, (drop, p, time, constant) in enumerate(rows)
        ]  # fmt: skip
        chosen = suggested(found)
        assert (chosen and chosen[0]) == expected


def test_a_drop_of_another_metric_is_told_by_its_interval() -> None:
    """The fastest may have lost by chance, or plainly."""
    for low, expected in ((-0.01, "1"), (0.002, "0")):
        found = entries((0.9, 5), (0.88, 2))
        for entry in found:
            entry["metric"], entry["mcnemar_p"] = "spearman", None
            entry["drop_ci95"] = [low if entry["key"] == "1" else -0.01, 0.04]
        assert suggested(found) is not None and suggested(found)[0] == expected


def test_the_cheapest_within_a_drop() -> None:
    found = entries((0.90, 10), (0.897, 5), (0.88, 2))
    assert cheapest(found, 0.3) == "1"  # a drop of exactly the limit holds
    assert cheapest(found, 2.5) == "2"
    assert cheapest(found, 0.1) == "0"
    assert cheapest(entries((0.5, 1)), 1) is None
