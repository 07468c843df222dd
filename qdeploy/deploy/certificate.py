"""Did the planned GEMMs run as INT8 kernels? Read from the graph that ONNX Runtime really runs.

An engine that silently runs in float scores *better*, so the proof is structural: each planned GEMM
is known by the int8 weight that the lowering wrote, and the node that reads this weight in the
optimized graph must be an INT8 kernel. Names of nodes prove nothing; optimizers rename them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.artifact import read_json
from qdeploy.deploy.engine import Engine

Array = npt.NDArray[Any]
CERTIFICATE = "certificate.json"

INT8_KERNELS = frozenset(
    {
        "MatMulIntegerToFloat",
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "QLinearMatMul",
        "QGemm",
        "QAttention",
    }
)


def optimized_graph(path: Path, threads: int = 1) -> ir.Model:
    """The graph after ONNX Runtime's own optimizations, as a session of `path` runs it."""
    from qdeploy.deploy.ort_cpu_engine import open_session, session_options

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        open_session(path, options)
        model = ir.load(options.optimized_model_filepath)
        for value in model.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)
    return model


def certify(path: Path, planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Compare the planned INT8 GEMMs with the kernels of the optimized graph.

    Args:
        path: the engine's model.onnx.
        planned: per GEMM name {"weights": int8 initializer names, "flops": per row of 128 tokens,
            "precision": "int8" or "float"}.

    Returns:
        {"planned", "executed": counts, "flops_share": of all GEMM FLOPs run in INT8,
        "fallbacks": [{"site", "kernel", "reason"}], "gemms": {name: kernel}}.
    """
    readers = _readers(optimized_graph(path)) if any(g["weights"] for g in planned.values()) else {}
    kernels: dict[str, str] = {}
    fallbacks = []
    for name, gemm in planned.items():
        if gemm["precision"] != "int8":
            continue
        found = [readers.get(weight, "missing") for weight in gemm["weights"]] or ["missing"]
        wrong = [kernel for kernel in found if kernel not in INT8_KERNELS]
        kernels[name] = wrong[0] if wrong else found[0]
        if wrong:
            reason = (
                "no node reads its int8 weight"
                if wrong[0] == "missing"
                else (f"its int8 weight is read by {wrong[0]}, which computes in float")
            )
            fallbacks.append({"site": name, "kernel": wrong[0], "reason": reason})
    total = sum(gemm["flops"] for gemm in planned.values())
    failed = {entry["site"] for entry in fallbacks}
    executed = [name for name in kernels if name not in failed]
    share = sum(planned[name]["flops"] for name in executed) / max(total, 1)
    return {
        "planned": len(kernels),
        "executed": len(executed),
        "flops_share": round(share, 6),
        "fallbacks": fallbacks,
        "gemms": kernels,
    }


def check_int8(
    engine_dir: str | Path, engine: Engine, feeds: Mapping[str, Array]
) -> dict[str, Any]:
    """The certificate's counts, with the INT8 kernels that a profiled run really called.

    Args:
        engine_dir: engine directory.
        engine: the same engine, loaded.
        feeds: int64 [B, S] inputs of the run.

    Returns:
        What `certify` returns, and "kernels": {kernel: calls per run}.
    """
    directory = Path(engine_dir)
    planned = read_json(directory / CERTIFICATE)["planned_gemms"]
    report = certify(directory / "model.onnx", planned)
    ran = Counter[str]()
    for kernel in engine.profile(feeds, iterations=1):
        ran[kernel.kernel] += kernel.calls
    report["kernels"] = {k: n for k, n in sorted(ran.items()) if "MatMul" in k or "Gemm" in k}
    int8_calls = sum(n for kernel, n in ran.items() if kernel in INT8_KERNELS)
    if report["executed"] and int8_calls < report["executed"]:
        report["fallbacks"].append(
            {
                "site": "profile",
                "kernel": "none",
                "reason": f"the run called {int8_calls} INT8 kernels only",
            }
        )
        report["flops_share"] *= int8_calls / report["executed"]
        report["executed"] = int8_calls
    return report


def _readers(model: ir.Model) -> dict[str, str]:
    """Operator type of the node that reads each initializer."""
    found = {}
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.is_initializer():
                found[str(value.name)] = node.op_type
    return found


def probe_feeds(inputs: list[str], *, batch: int = 1, sequence: int = 16) -> dict[str, Array]:
    """Small valid inputs, int64 [B, S]: ids 1 … 9, nothing masked."""
    ids = np.arange(batch * sequence).reshape(batch, sequence) % 9 + 1
    ones, zeros = np.ones((batch, sequence), np.int64), np.zeros((batch, sequence), np.int64)
    known = {"input_ids": ids.astype(np.int64), "attention_mask": ones, "token_type_ids": zeros}
    return {name: known[name] for name in inputs}
