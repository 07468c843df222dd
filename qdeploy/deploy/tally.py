"""Counts and shares of a certificate, from the kernels that ran, and the words for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from qdeploy.calibrate.plan import FLOAT, FP8
from qdeploy.deploy.engine import KernelTime
from qdeploy.figures import percent
from qdeploy.names import few, short_name
from qdeploy.schemas.certificate import (
    CertifiedGemm,
    Fallback,
    Int8,
    OtherProduct,
    PlannedGemm,
    Tally,
    Unplanned,
)

MISSING = "missing"
_NOT_FOUND = "no kernel reads its {} weight"
_ONE_OF_SEVERAL = "not all of its parts run in {}"


def tally(
    planned: Mapping[str, PlannedGemm],
    ran: Mapping[str, Sequence[KernelTime]],
    total_ms: float,
    others: Mapping[str, OtherProduct] = MappingProxyType({}),
) -> Tally:
    """Counts and shares.

    Args:
        planned: GEMMs of the plan, as `expected` has them.
        ran: the kernels of each GEMM.
        total_ms: kernel time of a run; 0 where no run was timed.
        others: products that are in no plan.
    """
    total = sum(gemm["flops"] for gemm in planned.values())
    total += sum(product["flops"] for product in others.values())

    def certified(
        product: PlannedGemm | OtherProduct, kernel: str, reason: str, spent: float
    ) -> CertifiedGemm:
        return {
            "planned": product["precision"],
            "kernel": kernel,
            "flops_share": round(product["flops"] / max(total, 1), 6),
            "time_share": time_share(spent),
            "reason": reason,
        }

    def time_share(spent: float) -> float | None:
        return round(spent / total_ms, 6) if total_ms else None

    fallbacks: list[Fallback] = []
    gemms: dict[str, CertifiedGemm] = {}
    executed, flops, wanted, ms = 0, 0, 0, 0.0
    for name, gemm in planned.items():
        kernels = list(ran.get(name, ()))
        quantized = gemm["precision"] != FLOAT
        reason = _fault(kernels, gemm["precision"]) if quantized else gemm["reason"]
        spent = sum(kernel.ms for kernel in kernels)
        gemms[name] = certified(gemm, _kernel(kernels, gemm["precision"]), reason, spent)
        if not quantized:
            continue
        work = gemm["flops"] - gemm["float_flops"]
        wanted += work
        if reason:
            fallbacks.append({"site": name, "kernel": gemms[name]["kernel"], "reason": reason})
            continue
        executed += 1
        flops += work
        ms += spent
    for name, product in others.items():
        spent = sum(kernel.ms for kernel in ran.get(name, ()))
        gemms[name] = certified(product, product["operator"], product["reason"], spent)
    return {
        "planned": sum(gemm["precision"] != FLOAT for gemm in planned.values()),
        "executed": executed,
        "planned_share": _share(wanted, total),
        "executed_share": _share(flops, wanted) if wanted else None,
        "flops_share": _share(flops, total),
        "time_share": time_share(ms),
        "fallbacks": fallbacks,
        "unplanned": _unplanned(gemms),
        "gemms": gemms,
    }


def _share(part: int, whole: int) -> float:
    """Rounded down, so that a share of 1 says that nothing is missing."""
    return math.floor(1e6 * part / max(whole, 1)) / 1e6


def _unplanned(gemms: Mapping[str, CertifiedGemm]) -> list[Unplanned]:
    """Products that were to stay in float, largest first."""
    found: list[Unplanned] = [
        {
            "site": name,
            "kernel": gemm["kernel"],
            "reason": gemm["reason"],
            "flops_share": gemm["flops_share"],
        }
        for name, gemm in gemms.items()
        if gemm["planned"] == FLOAT
    ]
    return sorted(found, key=lambda entry: -entry["flops_share"])


def worded(check: Tally, *, measured: bool, compiler: str | None = None) -> Int8:
    """With the three figures as everything prints them: "summary" in a sentence, "short" in a cell;
    none stands for another.

    Args:
        measured: FLOPs are of a run; else they are estimates.
        compiler: that lists the kernels, where nothing ran.
    """
    short = (
        f"{percent(check['planned_share'])}, {check['executed']}/{check['planned']}, "
        f"{percent(check['flops_share'])}"
    )
    return {
        "planned": check["planned"],
        "executed": check["executed"],
        "planned_share": check["planned_share"],
        "executed_share": check.get("executed_share"),
        "flops_share": check["flops_share"],
        "time_share": check.get("time_share"),
        "fallbacks": check["fallbacks"],
        "unplanned": check.get("unplanned", []),
        "gemms": check["gemms"],
        "flops_measured": measured,
        "summary": _summary(check, measured=measured, compiler=compiler),
        "short": short if check["planned"] else "none",
    }


def _summary(check: Tally, *, measured: bool, compiler: str | None) -> str:
    if not check["planned"]:
        return "no GEMM is planned in INT8"
    name, done = name_of(check), "ran in" if compiler is None else "compiled as"
    text = (
        f"{percent(check['planned_share'])} of all constant-weight FLOPs planned, "
        f"{check['executed']}/{check['planned']} planned GEMMs {done} {name} "
        f"({percent(check.get('executed_share'))} of the planned FLOPs), "
        f"{name} share of all {percent(check['flops_share'])}"
    )
    if compiler is not None:
        text += f"; by {compiler}, and nothing ran"
    if (share := check.get("time_share")) is not None:
        text += f", {percent(share)} of kernel time"
    return text if measured else f"{text} (FLOPs estimated from the weights)"


def name_of(check: Tally) -> str:
    """In what the planned GEMMs multiply, as texts say it: one plan has INT8 or FP8."""
    return "FP8" if any(gemm["planned"] == FP8 for gemm in check["gemms"].values()) else "INT8"


def largest_unplanned(unplanned: Iterable[Unplanned], most: int = 3) -> str:
    """The largest products that were to stay in float, with share and reason; empty for none."""
    found = [entry for entry in unplanned if entry["flops_share"] > 0]
    named = [
        f"{short_name(entry['site'])} ({percent(entry['flops_share'])}: {entry['reason']})"
        for entry in found
    ]
    return few(named, most, "; ")


def _others(kernels: Sequence[KernelTime], precision: str) -> list[KernelTime]:
    """Those that multiply in another precision than was planned."""
    return [k for k in kernels if not (k.fp8 if precision == FP8 else k.int8)]


def _kernel(kernels: Sequence[KernelTime], precision: str) -> str:
    """The kernel that says most: the first other one of a fallback, else the first."""
    if not kernels:
        return MISSING
    return (_others(kernels, precision) or kernels)[0].kernel


def _fault(kernels: Sequence[KernelTime], precision: str) -> str:
    """Why a planned GEMM is not INT8, or FP8; empty where it is."""
    if not kernels:
        return _NOT_FOUND.format(precision)
    wrong = _others(kernels, precision)
    if not wrong:
        return ""
    return wrong[0].fallback_reason or _ONE_OF_SEVERAL.format(precision.upper())
