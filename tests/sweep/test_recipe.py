"""Recipes: what they expand to, and every way to write one wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdeploy.errors import PlanError
from qdeploy.sweep.recipe import Trial, parse_recipe, read_recipe

ROOT = Path(__file__).parents[2]


def trials(*entries: dict[str, Any], **top: Any) -> list[dict[str, Any]]:
    return [t.settings for t in parse_recipe({"trials": list(entries), **top}).trials]


def test_lists_multiply() -> None:
    found = trials({"strategy": "peg", "groups": [2, 4], "grouping": ["sorted", "optimal"]})
    pairs = [(t["groups"], t["grouping"]) for t in found]
    assert pairs == [(2, "sorted"), (2, "optimal"), (4, "sorted"), (4, "optimal")]


def test_the_same_engine_twice_is_one_trial() -> None:
    assert len(trials({"strategy": ["w8a8", "w8a8"]}, {"strategy": "w8a8"})) == 1


def test_fp32_is_the_baseline_and_no_trial() -> None:
    assert trials({"strategy": ["fp32", "peg"]}) == [{"strategy": "peg"}]


def test_the_key_depends_on_everything_that_decides() -> None:
    trial = Trial({"strategy": "peg"})
    assert trial.key({"a": 1}) == Trial({"strategy": "peg"}).key({"a": 1})
    assert trial.key({"a": 1}) != trial.key({"a": 2})
    assert trial.key({}) != Trial({"strategy": "w8a8"}).key({})


def test_labels_say_what_was_set() -> None:
    settings = {"strategy": "peg", "scope": "all", "groups": 2}
    assert Trial(settings).label == "peg all groups=2"
    assert Trial(settings).target == "ort-cpu"


def test_defaults_are_the_protocol_of_the_paper() -> None:
    recipe = parse_recipe({"trials": [{"strategy": "peg"}]})
    assert (recipe.shapes, recipe.warmup, recipe.iterations) == (((8, 128),), 100, 500)


def test_the_limit_of_a_row_is_all_trials_and_part_of_their_keys() -> None:
    plain, limited = (
        parse_recipe({"trials": [{"strategy": "peg"}], **top}) for top in ({}, {"max_length": 128})
    )
    assert (plain.max_length, limited.max_length) == (None, 128)
    assert plain.protocol() != limited.protocol()
    with pytest.raises(PlanError, match="`max_length` is 0; give a whole number from 1 up"):
        parse_recipe({"trials": [{"strategy": "peg"}], "max_length": 0})
    with pytest.raises(PlanError, match="Unknown option of trial 1 'max_length'"):
        parse_recipe({"trials": [{"strategy": "peg", "max_length": 64}]})
    assert read_recipe(ROOT / "recipes" / "paper.yaml").max_length == 128


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    assert read_recipe(path).trials


def test_the_paper_s_recipe_holds_its_experiment() -> None:
    found = [t.settings for t in read_recipe(ROOT / "recipes" / "paper.yaml").trials]
    pairs = {
        (t["groups"], t["grouping"]) for t in found if t["strategy"] == "peg" and "groups" in t
    }
    assert pairs == {(k, g) for k in (2, 3, 4) for g in ("contiguous", "sorted", "optimal")}
    percentiles = [t["percentile"] for t in found if t["strategy"] == "percentile"]
    assert percentiles == [99.0, 99.5, 99.9, 99.99]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([], "the recipe is"),
        ({"trails": []}, "Unknown section 'trails'.*trials"),
        ({"trials": []}, "names no trial"),
        ({"trials": ["peg"]}, "trial 1 is 'peg'"),
        ({"trials": [{"strategy": "pog"}]}, "Unknown strategy of trial 1 'pog'"),
        ({"trials": [{"groups": 2}]}, "strategy of trial 1"),
        ({"trials": [{"strategy": "peg", "gruops": 2}]}, "option of trial 1 'gruops'.*groups"),
        ({"trials": [{"strategy": "peg", "seed": 2}]}, "option of trial 1 'seed'"),
        ({"trials": [{"strategy": "peg", "target": "tpu"}]}, "target of trial 1 'tpu'"),
        ({"trials": [{"strategy": "peg"}], "latency": {"shapes": ["8"]}}, "no shape"),
        ({"trials": [{"strategy": "peg"}], "latency": {"shapes": []}}, "is empty"),
        ({"trials": [{"strategy": "peg"}], "latency": {"runs": 3}}, "key under `latency`"),
        ({"trials": [{"strategy": "peg"}], "calibration": {"rows": 0}}, "calibration.rows"),
        ({"trials": [{"strategy": "peg"}], "resources": {"tpu": {}}}, "target under `resources`"),
        (
            {"trials": [{"strategy": "peg"}], "resources": {"default": {"gpus": 1}}},
            "resource of default 'gpus'.*num_gpus",
        ),
        (
            {"trials": [{"strategy": "peg"}], "resources": {"default": {"num_cpus": "two"}}},
            "`resources.default`: num_cpus is 'two'; give a number",
        ),
        ({"trials": [{"strategy": "peg"}], "columns": ["label"]}, "`columns` is .*label=COLUMN"),
    ],
)
def test_what_is_refused(recipe: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_recipe(recipe)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="does not exist"):
        read_recipe(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("trials: [")
    with pytest.raises(PlanError, match="cannot be read as YAML"):
        read_recipe(broken)
    broken.write_text("trials: [{strategy: pog}]")
    with pytest.raises(PlanError, match=r"broken\.yaml: Unknown strategy"):
        read_recipe(broken)


def test_trials_that_differ_all_stand_and_repetitions_once() -> None:
    found = parse_recipe(
        {
            "trials": [
                {"strategy": "peg", "groups": "auto"},
                {"strategy": "peg", "outlier_channels": "auto"},
                {"strategy": "peg", "groups": 2, "scope": "all"},
                {"scope": "all", "strategy": "peg", "groups": 2},
            ]
        }
    )
    labels = [trial.label for trial in found.trials]
    assert labels == ["peg groups=auto", "peg outlier_channels=auto", "peg groups=2 all"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"grouping": "optimalx"}, "trial 1: Unknown grouping 'optimalx'. Did you mean 'optimal'"),
        ({"groups": 0}, "trial 1: --groups is 0"),
        ({"opt_shape": "8by8"}, "trial 1: --opt-shape '8by8' is no shape"),
        ({"activations": "symetric"}, "trial 1: Unknown activations"),
    ],
)
def test_values_are_checked_before_anything_is_built(options: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError, match=text):
        parse_recipe({"trials": [{"strategy": "peg"} | options]})
