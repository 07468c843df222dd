"""Which build an analysis comes to."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qdeploy.analyze.next_build import build_command, next_build
from qdeploy.schemas.analysis import AnalyzedSite, MeasuredPlan
from tests.report.reports import analysis


def plan(strategy: str, sqnr_db: float, *floats: str, scope: str = "gemm") -> MeasuredPlan:
    return {
        "strategy": strategy, "scope": scope, "sites": 3, "float_sites": list(floats),
        "sqnr_db": sqnr_db, "flipped": None, "flip_percent": None,
    }  # fmt: skip


def unmeasured(groups: int) -> AnalyzedSite:
    """A site that `peg` cuts into so many groups."""
    return {
        **analysis()["sites"][0],
        "cost": None,
        "treatment": {"groups": groups, "outlier_channels": [], "prescaled": False, "text": ""},
    }


@pytest.mark.parametrize(
    ("levels", "chosen"),
    [
        ((31.0, 45.0), 0),  # enough as it is
        ((24.0, 31.5), 1),
        ((24.0, 24.5), 0),  # groups change nothing
        ((8.0, 20.0, 35.0), 2),  # sites in float mend the rest
        ((8.0, 20.0, 20.5), 1),
        ((8.0, 31.0, 45.0), 1),
    ],
)
def test_the_simplest_plan_of_low_noise(levels: tuple[float, ...], chosen: int) -> None:
    plans = [plan("w8a8", levels[0]), plan("peg", levels[1]), plan("peg", 90.0, scope="all")]
    plans += [plan("peg", level, "a b.input", "c.input") for level in levels[2:]]
    found = next_build("m", plans, {}, {"data": "my rows.csv"})
    assert found["plan"] is not None and plans[found["plan"]]["sqnr_db"] == levels[chosen]
    assert found["options"]["strategy"] == ("w8a8" if chosen == 0 else "peg")
    words = shlex.split(found["command"])
    assert words[:3] == ["qdeploy", "build", "m"] and words[words.index("--data") + 1] == (
        "my rows.csv"
    )
    assert ("--float-sites" in words) == (chosen == 2)
    if chosen == 2:
        assert words[words.index("--float-sites") + 1] == "a b.input,c.input"


def test_without_measurements_the_ranges_decide() -> None:
    below, above = unmeasured(1), unmeasured(2)
    assert next_build("m", [], {"a": below}, {})["options"] == {"strategy": "w8a8"}
    assert next_build("m", [], {"a": below, "b": above}, {})["options"] == {"strategy": "peg"}


def test_a_free_place_for_the_engine(tmp_path: Path) -> None:
    model = tmp_path / "my model"
    assert shlex.split(build_command(str(model), {"strategy": "peg"}))[3] == f"{model}-peg"
    (tmp_path / "my model-peg").mkdir()
    (tmp_path / "my model-peg-2").mkdir()
    assert shlex.split(build_command(str(model), {"strategy": "peg"}))[3] == f"{model}-peg-3"
