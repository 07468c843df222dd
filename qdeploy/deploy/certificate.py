"""Did the planned GEMMs run as INT8 kernels, how much of the work is that, and if not, why not?

An engine that silently runs in float scores *better*, so the proof is of what ran: each planned
GEMM is followed by what its lowering left in the graph (`Lowered.trace_names`) to the kernels of a
profiled run. Names that optimizers give prove nothing.

Three figures are told apart, and none stands for another: how much of the work was planned in INT8,
how much of that ran so, and how much of all the work that is. All the work is every product with a
constant operand in the engine's graph (`qdeploy.graph.products`), whether the plan knows it or
not. What is not shown to run in integers counts as float.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.calibrate.plan import FLOAT, Plan
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.lowering.lowered import Lowered, TraceName
from qdeploy.deploy.tally import tally, worded
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.files.integrity import GRAPHS, verify
from qdeploy.graph.structure import Structure
from qdeploy.schemas.certificate import (
    Certificate,
    Int8,
    OtherProduct,
    PlannedGemm,
    require_possible,
)
from qdeploy.schemas.checked import checked
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.types import Array

if TYPE_CHECKING:
    from qdeploy.deploy.product_flops import Count
    from qdeploy.graph.products import Product

CERTIFICATE = "certificate.json"
_AGAIN = "Build the engine again."


def expected(plan: Plan, structure: Structure, lowered: Lowered, count: Count) -> Certificate:
    """What a certificate is held against: all products of an engine's graph.

    Args:
        count: of that graph, before anything compiled it.
    """
    flops = {counted.product.name: counted.flops for counted in count.products}
    gemms: dict[str, PlannedGemm] = {}
    for gemm in structure.gemms:
        trace_names = lowered.trace_names.get(gemm.name, (TraceName(gemm.weight, gemm.node),))
        floats = sum(flops.pop(name, 0) for name in lowered.float_products.get(gemm.name, ()))
        gemms[gemm.name] = {
            "precision": plan.gemms[gemm.name].precision,
            "reason": plan.gemms[gemm.name].reason,
            "flops": floats + sum(flops.pop(trace_name.node, 0) for trace_name in trace_names),
            "float_flops": floats,
            "marks": [list(trace_name) for trace_name in trace_names],
        }
    others: dict[str, OtherProduct] = {
        counted.product.name: {
            "precision": FLOAT,
            "reason": unplanned(counted.product),
            "flops": counted.flops,
            "operator": counted.product.operator,
        }
        for counted in count.products
        if counted.product.name in flops
    }
    return {
        "planned_gemms": gemms,
        "other_products": others,
        "flops_measured": count.measured,
    }


def unplanned(product: Product) -> str:
    """Why a product is not in a plan."""
    if not product.judged:
        return f"{product.operator} is not known here, and is not judged: it counts as float"
    if product.operator in ("MatMul", "Gemm"):
        return f"a {product.operator} of a form that is not planned"
    return f"{product.operator} is not planned in 8 bits"


def certify(
    engine: Engine, planned: Certificate, feeds: Mapping[str, Array], iterations: int = 3
) -> Int8:
    """Profile an engine and hold what ran against what was planned.

    Args:
        engine: loaded.
        planned: of `expected`.
        feeds: int64 [B, S] inputs of the run.
        iterations: profiled runs after one warm-up.

    """
    gemms, others = planned["planned_gemms"], planned["other_products"]
    trace_names = {name: [TraceName(*m) for m in gemm["marks"]] for name, gemm in gemms.items()}
    trace = engine.trace_gemms(trace_names, feeds, iterations)
    calls: Counter[str] = Counter()
    for kernel in trace.kernels:
        calls[kernel.kernel] += kernel.calls
    products = {k: n for k, n in sorted(calls.items()) if _multiplies(k)}
    shape = list(next(iter(feeds.values())).shape) if feeds else []
    found = tally(gemms, trace.gemms, trace.ms, others)
    told = worded(found, measured=planned["flops_measured"])
    told |= {"kernels": products, "shape": shape}
    return told


def check_packages(engine: Engine) -> None:
    """Import what `certify` will need of an engine, before hours of work rather than after.

    Raises:
        ModuleNotFoundError: a package is missing; `qdeploy.machine.faults` says what to install.
    """
    for package in engine.proof_packages:
        importlib.import_module(package)


def check_int8(
    engine_dir: str | Path,
    engine: Engine,
    feeds: Mapping[str, Array],
    manifest: EngineManifest | None = None,
) -> Int8:
    """`certify` for an engine directory whose engine is loaded.

    Args:
        engine_dir: engine directory.
        engine: loaded from it.
        feeds: of `certify`.
        manifest: of the directory when the engine was loaded; None is not to ask.

    Raises:
        ModelError: its certificate is of an earlier version, which did not count all products, or
            of another graph than the one that stands there.
    """
    directory = Path(engine_dir)
    found = read_manifest(directory, "engine")
    if manifest is not None and found != manifest:
        raise ModelError(
            f"{directory} was replaced while it was measured: what ran is no longer there. Run the "
            "evaluation again."
        )
    planned = read_certificate(directory)
    verify(directory, found, (*GRAPHS, CERTIFICATE))
    return certify(engine, planned, feeds)


def read_certificate(directory: Path) -> Certificate:
    """The certificate of an engine directory.

    Raises:
        ModelError: it is missing or damaged, or an earlier version wrote it, which did not count
            all products.
    """
    path = directory / CERTIFICATE
    found = read_json(path, _AGAIN)
    if isinstance(found, dict) and not {"other_products", "flops_measured"} <= set(found):
        raise ModelError(
            f"{path} does not list all products of the graph: an earlier qdeploy wrote it, or it "
            f"is damaged. {_AGAIN}"
        )
    return checked(found, Certificate, path, _AGAIN, require_possible)


def _multiplies(kernel: str) -> bool:
    names = ("matmul", "gemm", "fullyconnected", "attention", "convolution")
    return any(name in kernel.lower() for name in names)


def probe_feeds(inputs: list[str], *, batch: int = 1, sequence: int = 16) -> dict[str, Array]:
    """Small valid inputs, int64 [B, S]: ids 1 … 9, nothing masked."""
    ids = np.arange(batch * sequence).reshape(batch, sequence) % 9 + 1
    ones, zeros = np.ones((batch, sequence), np.int64), np.zeros((batch, sequence), np.int64)
    known = {"input_ids": ids.astype(np.int64), "attention_mask": ones, "token_type_ids": zeros}
    return {name: known[name] for name in inputs}
