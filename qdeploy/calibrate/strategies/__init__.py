"""Strategies: functions from sites and statistics to a plan, one per file."""

from __future__ import annotations

import importlib

from qdeploy.calibrate.alarms import check_plan
from qdeploy.calibrate.context import Context
from qdeploy.calibrate.plan import Plan
from qdeploy.errors import PlanError, choose

STRATEGIES = (
    "fp32",
    "dynamic",
    "w8a8",
    "percentile",
    "mse",
    "entropy",
    "mixed",
    "smoothquant",
    "peg",
)
_WITHOUT_STATISTICS = frozenset({"fp32", "dynamic"})


def needs_statistics(strategy: str) -> bool:
    """True where a strategy reads calibration statistics.

    Raises:
        PlanError: an unknown strategy, with the nearest name.
    """
    return choose("strategy", strategy, STRATEGIES, PlanError) not in _WITHOUT_STATISTICS


def make_plan(strategy: str, context: Context) -> Plan:
    """The plan of a strategy, after the sanity alarms.

    Raises:
        PlanError: an unknown strategy, or a plan that an alarm stops.
    """
    choose("strategy", strategy, STRATEGIES, PlanError)
    module = importlib.import_module(f"qdeploy.calibrate.strategies.{strategy}")
    plan: Plan = module.plan(context)
    check_plan(plan, context.statistics)
    return plan
