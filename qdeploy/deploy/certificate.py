"""Did the planned GEMMs run as INT8 kernels, how much of the work is that, and if not, why not?

An engine that silently runs in float scores *better*, so the proof is of what ran: each planned
GEMM is followed by what its lowering left in the graph (`Lowered.marks`) to the kernels of a
profiled run. Names that optimizers give prove nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.artifact import read_json
from qdeploy.calibrate.plan import INT8, Plan
from qdeploy.calibrate.structure import Structure
from qdeploy.deploy.engine import Engine, KernelTime
from qdeploy.deploy.lowered import Lowered

Array = npt.NDArray[Any]
CERTIFICATE = "certificate.json"
MISSING = "missing"
_NOT_FOUND = "no kernel reads its int8 weight"
_ONE_OF_SEVERAL = "not all of its parts run in INT8"


def planned_gemms(plan: Plan, structure: Structure, lowered: Lowered) -> dict[str, Any]:
    """What a certificate is held against, by GEMM name.

    Returns:
        {"precision", "reason": of the plan, "flops": per row of 128 tokens, "float_flops": those of
        them that outlier channels take in a float GEMM, "marks": see `Lowered`}.
    """
    return {
        gemm.name: {
            "precision": plan.gemms[gemm.name].precision,
            "reason": plan.gemms[gemm.name].reason,
            "flops": gemm.flops,
            "float_flops": 2 * gemm.rows * gemm.n * lowered.float_columns.get(gemm.name, 0),
            "marks": list(lowered.marks.get(gemm.name, (gemm.weight,))),
        }
        for gemm in structure.gemms
    }


def certify(
    engine: Engine, planned: Mapping[str, Any], feeds: Mapping[str, Array], iterations: int = 3
) -> dict[str, Any]:
    """Profile an engine and hold what ran against what was planned.

    Args:
        engine: loaded.
        planned: of `planned_gemms`.
        feeds: int64 [B, S] inputs of the run.
        iterations: profiled runs after one warm-up.

    Returns:
        `tally`, with "kernels" (calls per run of everything that multiplies matrices) and "shape"
        ([B, S] of the run).
    """
    witness = engine.witness({n: g["marks"] for n, g in planned.items()}, feeds, iterations)
    calls: Counter[str] = Counter()
    for kernel in witness.kernels:
        calls[kernel.kernel] += kernel.calls
    products = {k: n for k, n in sorted(calls.items()) if _multiplies(k)}
    shape = list(next(iter(feeds.values())).shape) if feeds else []
    return tally(planned, witness.gemms, witness.ms) | {"kernels": products, "shape": shape}


def check_int8(
    engine_dir: str | Path, engine: Engine, feeds: Mapping[str, Array]
) -> dict[str, Any]:
    """`certify` for an engine directory whose engine is loaded."""
    return certify(engine, read_json(Path(engine_dir) / CERTIFICATE)["planned_gemms"], feeds)


def tally(
    planned: Mapping[str, Any], ran: Mapping[str, Sequence[KernelTime]], total_ms: float
) -> dict[str, Any]:
    """Counts and shares.

    Args:
        planned: of `planned_gemms`.
        ran: the kernels of each GEMM.
        total_ms: kernel time of a run; 0 where no run was timed.

    Returns:
        {"planned", "executed": GEMMs; "flops_share": of all GEMM FLOPs, the part that INT8 kernels
        did; "time_share": of the run's kernel time, that of INT8 GEMMs; "fallbacks": [{"site",
        "kernel", "reason"}]; "gemms": {name: {"planned", "kernel", "flops_share", "time_share",
        "reason"}}}. A share of time is None where no run was timed.
    """
    total = sum(gemm["flops"] for gemm in planned.values())
    fallbacks, gemms = [], {}
    executed, flops, ms = 0, 0.0, 0.0
    for name, gemm in planned.items():
        kernels = list(ran.get(name, ()))
        reason = _fault(kernels) if gemm["precision"] == INT8 else gemm["reason"]
        spent = sum(kernel.ms for kernel in kernels)
        gemms[name] = {
            "planned": gemm["precision"],
            "kernel": _kernel(kernels),
            "flops_share": round(gemm["flops"] / max(total, 1), 6),
            "time_share": round(spent / total_ms, 6) if total_ms else None,
            "reason": reason,
        }
        if gemm["precision"] != INT8:
            continue
        if reason:
            fallbacks.append({"site": name, "kernel": gemms[name]["kernel"], "reason": reason})
            continue
        executed += 1
        flops += gemm["flops"] - gemm.get("float_flops", 0)
        ms += spent
    return {
        "planned": sum(gemm["precision"] == INT8 for gemm in planned.values()),
        "executed": executed,
        "flops_share": round(flops / max(total, 1), 6),
        "time_share": round(ms / total_ms, 6) if total_ms else None,
        "fallbacks": fallbacks,
        "gemms": gemms,
    }


def _kernel(kernels: Sequence[KernelTime]) -> str:
    """The kernel that says most: the first float one of a fallback, else the first."""
    if not kernels:
        return MISSING
    return next((k for k in kernels if not k.int8), kernels[0]).kernel


def _fault(kernels: Sequence[KernelTime]) -> str:
    """Why a planned GEMM is not INT8; empty where it is."""
    if not kernels:
        return _NOT_FOUND
    wrong = [kernel for kernel in kernels if not kernel.int8]
    return wrong[0].fault or _ONE_OF_SEVERAL if wrong else ""


def _multiplies(kernel: str) -> bool:
    names = ("matmul", "gemm", "fullyconnected", "attention", "convolution")
    return any(name in kernel.lower() for name in names)


def probe_feeds(inputs: list[str], *, batch: int = 1, sequence: int = 16) -> dict[str, Array]:
    """Small valid inputs, int64 [B, S]: ids 1 … 9, nothing masked."""
    ids = np.arange(batch * sequence).reshape(batch, sequence) % 9 + 1
    ones, zeros = np.ones((batch, sequence), np.int64), np.zeros((batch, sequence), np.int64)
    known = {"input_ids": ids.astype(np.int64), "attention_mask": ones, "token_type_ids": zeros}
    return {name: known[name] for name in inputs}
