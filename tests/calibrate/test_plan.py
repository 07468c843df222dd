"""Plans as JSON, options with every text, and the alarms."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.affine import Affine, affine_from_range
from qdeploy.calibrate.checks import affine_range, check_distinct, check_plan, check_signs
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.options import PlanOptions
from qdeploy.calibrate.plan import (
    FLOAT,
    INT8,
    Dynamic,
    Float,
    GemmPlan,
    Grouped,
    PerTensor,
    Plan,
    SitePlan,
    Treatment,
)
from qdeploy.calibrate.ranges import percentile
from qdeploy.calibrate.schemes import ASYMMETRIC
from qdeploy.errors import PlanError, QDeployWarning

A, B = Affine(0.25, 128), Affine(float(np.float32(0.1)), 3)
TREATMENTS: tuple[Treatment, ...] = (
    Float(),
    Dynamic(),
    PerTensor(A),
    PerTensor(B, (0.5, 1.5, 2.0)),
    Grouped(((0, 2), (1,)), (A, B)),
    Grouped(((0,), (2,)), (A, B), (1,)),
    PerTensor(B, (0.5, 1.5), (-1.0, 0.0)),
)


def plan_of(*treatments: Treatment, strategy: str = "peg", **options: Any) -> Plan:
    sites = [
        SitePlan(f"s{i}", f"t{i}", t, "why", None if isinstance(t, Float) else 31.5)
        for i, t in enumerate(treatments)
    ]
    gemms = [GemmPlan("a", "a.weight", INT8, "static"), GemmPlan("b", "b.weight", FLOAT, "head")]
    return Plan(
        strategy, "gemm", ASYMMETRIC, True, {s.tensor: s for s in sites},
        {g.name: g for g in gemms}, ("words",), options,
    )  # fmt: skip


# Plans


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda t: f"{t.kind}")
def test_every_treatment_comes_back(treatment: Treatment) -> None:
    plan = plan_of(treatment, groups=4)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_whole_plan_comes_back() -> None:
    plan = replace(plan_of(*TREATMENTS, alpha="auto"), per_channel_weights=False, scope="all")
    found = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert found == plan and list(found.sites) == [f"t{i}" for i in range(7)]
    assert found.int8_gemms == ("a",)
    assert found.treatment("t2") == PerTensor(A) and found.treatment("nowhere") == Float()


def damaged() -> list[Any]:
    def change(*path: Any, to: Any = None) -> Any:
        value = json.loads(json.dumps(plan_of(*TREATMENTS).to_json()))
        at = value
        for key in path[:-1]:
            at = at[key]
        if to is None:
            del at[path[-1]]
        else:
            at[path[-1]] = to
        return value

    return [
        change("sites"),
        change("tables"),
        change("gemms", 0, "precision"),
        change("sites", 0, "treatment", "kind"),
        change("sites", 0, "treatment", "kind", to="cubic"),
        change("sites", 2, "treatment", "affine", "scale"),
        change("sites", 2, "treatment", to="per_tensor"),
        change("sites", 4, "treatment", "groups", to=7),
        change("sites", to=["x"]),
        change("sites", 6, "treatment", "preshift", to=[1.0]),
    ]


@pytest.mark.parametrize("value", damaged())
def test_a_damaged_plan_is_told(value: Any) -> None:
    with pytest.raises(PlanError, match=r"plan.json is damaged: .*Build the engine again"):
        Plan.from_json(value)


def test_another_schema_is_told() -> None:
    with pytest.raises(PlanError, match=r"plan.json was written by a newer qdeploy"):
        Plan.from_json({"schema": 2})


# Options


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"scope": "gem"}, "Unknown scope 'gem'. Did you mean 'gemm'"),
        ({"activations": "symetric"}, "Unknown activations 'symetric'. Did you mean 'sym"),
        ({"weights": "per-chanel"}, "Unknown weights .*Did you mean 'per-channel'"),
        ({"grouping": "sort"}, "Unknown grouping 'sort'. Did you mean 'sorted'"),
        ({"mixed": "ff"}, "Unknown mixed 'ff'. Did you mean 'ffn'"),
        ({"percentile": 0.9999}, "--percentile is 0.9999. Give a number above 50 and up to 100"),
        ({"percentile": 100.5}, "--percentile is 100.5"),
        ({"percentile": float("nan")}, "--percentile is nan"),
        ({"alpha": 1.5}, "--alpha is 1.5. Give a number from 0 to 1, or 'auto'"),
        ({"alpha": "half"}, "--alpha is 'half'"),
        ({"groups": 0}, "--groups is 0. Give a whole number from 1 to 32, or 'auto'"),
        ({"groups": "many"}, "--groups is 'many'"),
        ({"groups": True}, "--groups is True"),
        ({"groups": 2.5}, "--groups is 2.5"),
        (
            {"groups": 33},
            "--groups is 33. .* 1 to 32, or 'auto'. Each group is a product of",
        ),
        (
            {"outlier_channels": -1},
            "--outlier-channels is -1. .* from 0 up, or 'auto', or 'none'",
        ),
        ({"outlier_channels": "all"}, "--outlier-channels is 'all'"),
    ],
    ids=str,
)
def test_wrong_options(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError, match=text):
        PlanOptions(**wrong)


def test_right_options() -> None:
    PlanOptions(percentile=100, alpha=0.0, groups=1, outlier_channels=0)
    PlanOptions(groups=32)
    PlanOptions(alpha=1.0, groups="auto", outlier_channels="none", weights="per-tensor")
    plain = PlanOptions()
    assert plain.per_channel_weights and not PlanOptions(weights="per-tensor").per_channel_weights
    assert json.loads(json.dumps(plain.to_json())) == plain.to_json()
    assert set(plain.to_json()) >= {"scope", "groups", "outlier_channels", "alpha"}


# Alarms


def seen(x: Any) -> SiteStatistics:
    statistics = SiteStatistics.empty(1)
    statistics.update(np.asarray(x, np.float32).reshape(-1, 1))
    return statistics


def test_the_papers_range_is_stopped() -> None:
    """arXiv 2603.04308's code took the upper percentile as the range: no negative value is left."""
    statistics = seen(np.random.default_rng(0).normal(size=5000))
    high = percentile(statistics, 99.9, ASYMMETRIC)[1]
    buggy = Affine(high / 255, 0)
    with pytest.raises(
        PlanError, match=r"sum: the range \[-?0, .* lost the negative side.*two-sid"
    ):
        check_signs("sum", statistics, buggy)
    with pytest.raises(PlanError, match=r"lost the positive side"):
        check_signs("sum", statistics, Affine(high / 255, 255))
    check_signs("sum", statistics, affine_from_range(-high, high, ASYMMETRIC))
    plan = plan_of(PerTensor(buggy))
    with pytest.raises(PlanError, match=r"s0: the range .* lost the negative side"):
        check_plan(plan, {"t0": statistics})


def test_one_sided_tensors_are_no_alarm() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 1000)
    check_signs("relu", seen(x), affine_from_range(0, 1, ASYMMETRIC))
    check_signs("minus", seen(-x), affine_from_range(-1, 0, ASYMMETRIC))
    gelu = np.concatenate([10 * x, [-0.17]])  # its negative side may be clipped on purpose
    check_signs("gelu", seen(gelu), affine_from_range(0, 10, ASYMMETRIC))
    check_signs("zero", seen(np.zeros(4)), affine_from_range(0, 0, ASYMMETRIC))


def test_much_clipping_warns() -> None:
    statistics = {"t0": seen(np.random.default_rng(0).uniform(-1, 1, 5000))}
    tight = plan_of(PerTensor(affine_from_range(-0.7, 0.7, ASYMMETRIC)))
    with pytest.warns(QDeployWarning, match=r"1 sites clip more than 5 % .*s0, (29|30)\.\d %"):
        check_plan(tight, statistics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_plan(plan_of(PerTensor(affine_from_range(-0.97, 0.97, ASYMMETRIC))), statistics)
        check_plan(plan_of(Grouped(((0,),), (Affine(1e-3, 0),))), statistics)  # not per tensor


def test_settings_without_effect_warn() -> None:
    one = plan_of(PerTensor(A), strategy="percentile", percentile=99.9)
    other = replace(one, options={"percentile": 99.99})
    with pytest.warns(
        QDeployWarning, match=r"percentile percentile=99.9 gives exactly the same ranges as percen"
    ):
        check_distinct(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_distinct(one, one)  # the same settings ought to
        check_distinct(one, replace(other, sites=plan_of(PerTensor(B)).sites))
        check_distinct(replace(one, sites={}), replace(other, sites={}))  # fp32 twice


def test_the_range_of_a_scale() -> None:
    assert affine_range(Affine(0.5, 0)) == (0.0, 127.5)
    assert affine_range(Affine(0.5, 128)) == (-64.0, 63.5)
