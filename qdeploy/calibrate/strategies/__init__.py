"""Strategies: functions from sites and statistics to a plan, one per file."""

from __future__ import annotations

import importlib
import warnings

from qdeploy.calibrate.checks import check_distinct, check_plan
from qdeploy.calibrate.context import Context, assemble
from qdeploy.calibrate.options import AUTO, GEMM_SCOPE, NONE, PlanOptions
from qdeploy.calibrate.plan import Float, Plan, SitePlan
from qdeploy.calibrate.schemes import ASYMMETRIC
from qdeploy.errors import PlanError, QDeployWarning, choose
from qdeploy.options import defaults, flat

FP32, FP16, FP8 = "fp32", "fp16", "fp8"
STRATEGIES = (
    FP32,
    FP16,
    "dynamic",
    "w8a8",
    "percentile",
    "mse",
    "entropy",
    "mixed",
    "smoothquant",
    "peg",
    FP8,
)
STRATEGY_NAMES = (*STRATEGIES, "auto")  # what may be typed; auto is in `qdeploy.autotune.strategy`
_BASELINES = frozenset({FP32, FP16})
_WITHOUT_STATISTICS = _BASELINES | {"dynamic"}
# Rules for one range per tensor: each ought to give other ranges than minimum and maximum.
_RANGE_RULES = ("percentile", "mse", "entropy")
# Options that only some strategies read.
_READ_BY = {
    "percentile": ("percentile",),
    "mixed": ("mixed",),
    "alpha": ("smoothquant",),
    "grouping": ("peg",),
    "groups": ("peg",),
    "outlier_channels": ("peg",),
    "prescale": ("peg",),
    "noise_target": ("peg",),
    "shift": ("peg",),
    "sensitivity": ("peg",),
    "weight_rounding": ("peg",),
    "float_sites": tuple(s for s in STRATEGIES if s not in _BASELINES),
    "int8_residuals": tuple(s for s in STRATEGIES if s not in _WITHOUT_STATISTICS),
    "activations": tuple(s for s in STRATEGIES if s not in _WITHOUT_STATISTICS | {FP8}),
    "cpu": tuple(s for s in STRATEGIES if s not in _BASELINES | {FP8}),
    "weights": tuple(s for s in STRATEGIES if s not in _BASELINES),
    "scope": tuple(s for s in STRATEGIES if s not in _BASELINES),
}


def needs_statistics(strategy: str) -> bool:
    """True where a strategy reads calibration statistics.

    Raises:
        PlanError: an unknown strategy, with the nearest name.
    """
    return choose("strategy", strategy, STRATEGIES, PlanError) not in _WITHOUT_STATISTICS


def make_plan(strategy: str, context: Context) -> Plan:
    """The plan of a strategy, after the sanity alarms; options that it does not read are named.

    Raises:
        PlanError: an unknown strategy, or a plan that an alarm stops.
    """
    choose("strategy", strategy, STRATEGIES, PlanError)
    _warn_of_unread(strategy, context.options)
    plan = _with_float(_planned(strategy, context), context)
    check_plan(plan, context.statistics)
    if strategy in _RANGE_RULES:
        check_distinct(plan, _planned("w8a8", context))
    return plan


def _planned(strategy: str, context: Context) -> Plan:
    plan: Plan = importlib.import_module(f"qdeploy.calibrate.strategies.{strategy}").plan(context)
    return plan


def _with_float(plan: Plan, context: Context) -> Plan:
    """The plan with the sites of `float_sites` in float.

    Raises:
        PlanError: a name that is no site of this plan, with the nearest.
    """
    by_name = {site.name: tensor for tensor, site in plan.sites.items()}
    chosen = context.options.float_sites
    if not chosen:
        return plan
    sites = dict(plan.sites)
    for name in chosen:
        tensor = by_name[choose("site of this plan", name, by_name, PlanError)]
        sites[tensor] = SitePlan(name, tensor, Float(), "named in --float-sites")
    return assemble(context, plan.strategy, sites, plan.activations)


def _warn_of_unread(strategy: str, options: PlanOptions) -> None:
    """Warn of options that were set and change nothing, so that nobody compares equal engines."""
    if strategy == "peg" and options.scope != GEMM_SCOPE:
        factors = {"--prescale": options.prescale not in (None, NONE), "--shift": options.shift}
        for name in (name for name, given in factors.items() if given):
            warnings.warn(
                f"{name} is of scope gemm: in scope {options.scope} no input is scaled.",
                QDeployWarning,
                stacklevel=3,
            )
    fixed = options.groups != AUTO and options.prescale in (None, NONE)
    if strategy == "peg" and options.sensitivity and fixed:
        warnings.warn(
            f"--sensitivity moves noise targets, and --groups {options.groups} asks for none: the "
            "engine is the same without.",
            QDeployWarning,
            stacklevel=3,
        )
    plain = defaults(PlanOptions) | {"activations": ASYMMETRIC, "prescale": NONE}
    unread = [
        f"--{name.replace('_', '-')}"
        for name, value in flat(options).items()
        if value not in (None, plain[name]) and strategy not in _READ_BY[name]
    ]
    if unread:
        warnings.warn(
            f"{strategy} does not read {', '.join(unread)}: the engine is the same without.",
            QDeployWarning,
            stacklevel=3,
        )
