"""Which build an analysis comes to."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from qdeploy.analyze.next_build import build_command, next_build


def plan(strategy: str, sqnr_db: float, *floats: str, scope: str = "gemm") -> dict[str, Any]:
    return {
        "strategy": strategy, "scope": scope, "float_sites": list(floats), "sqnr_db": sqnr_db,
    }  # fmt: skip


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
    assert plans[found["plan"]]["sqnr_db"] == levels[chosen]
    assert found["options"]["strategy"] == ("w8a8" if chosen == 0 else "peg")
    words = shlex.split(found["command"])
    assert words[:3] == ["qdeploy", "build", "m"] and words[words.index("--data") + 1] == (
        "my rows.csv"
    )
    assert ("--float-sites" in words) == (chosen == 2)
    if chosen == 2:
        assert words[words.index("--float-sites") + 1] == "a b.input,c.input"


def test_without_measurements_the_ranges_decide() -> None:
    below = {"cost": None, "treatment": {"groups": 1, "outlier_channels": [], "prescaled": False}}
    above = {"cost": None, "treatment": {"groups": 2, "outlier_channels": [], "prescaled": False}}
    assert next_build("m", [], {"a": below}, {})["options"] == {"strategy": "w8a8"}
    assert next_build("m", [], {"a": below, "b": above}, {})["options"] == {"strategy": "peg"}


def test_a_free_place_for_the_engine(tmp_path: Path) -> None:
    model = tmp_path / "my model"
    assert shlex.split(build_command(str(model), {"strategy": "peg"}))[3] == f"{model}-peg"
    (tmp_path / "my model-peg").mkdir()
    (tmp_path / "my model-peg-2").mkdir()
    assert shlex.split(build_command(str(model), {"strategy": "peg"}))[3] == f"{model}-peg-3"
