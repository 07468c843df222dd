"""What the plans of trials need beyond ranges is gathered by the calibration that they share."""

from __future__ import annotations

from pathlib import Path

import pytest

import qdeploy
from qdeploy.sweep.recipe import parse_recipe

PLAIN = {"strategy": "peg"}
COMPENSATED = PLAIN | {"weight_rounding": "compensated"}
WEIGHED = PLAIN | {"sensitivity": True}


def test_what_one_trial_needs_is_gathered() -> None:
    found = [
        parse_recipe({"trials": trials}).gathers
        for trials in ([PLAIN], [PLAIN, COMPENSATED], [WEIGHED, PLAIN], [COMPENSATED, WEIGHED])
    ]
    assert [tuple(gathers.values()) for gathers in found] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


@pytest.mark.integration
def test_such_a_trial_is_built(model: Path, rows: str, other_rows: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "calibration: {rows: 8, seed: 0}\n"
        "latency: {shapes: [2x16], warmup: 1, iterations: 20, threads: 1}\n"
        "trials: [{strategy: peg, weight_rounding: compensated, sensitivity: true}]\n"
    )
    result = qdeploy.sweep(
        model, tmp_path / "sweep", recipe=recipe, data=rows, eval_data=other_rows
    )
    assert [trial["error"] for trial in result["trials"]] == [None, None]
