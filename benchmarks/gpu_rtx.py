"""What this device makes of TensorRT-RTX: whether it takes an engine, and what its kernels cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.cuda import device
from qdeploy.deploy.targets.ort_tensorrt_rtx import provider
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.directory import ONNX, PLAN
from qdeploy.deploy.targets.tensorrt.engine import TensorRtEngine
from qdeploy.deploy.targets.tensorrt.proof import CAPABILITIES
from qdeploy.deploy.targets.tensorrt_rtx.directory import KERNELS, compile_directory
from qdeploy.deploy.trial import BUILD, FEEDS, save_gemm
from qdeploy.errors import QDeployError, TargetError
from qdeploy.files.artifact import read_manifest
from qdeploy.files.scratch import scratch


def takes_rtx() -> dict[str, Any]:
    """Whether this device takes a plan of TensorRT-RTX, in the words of whoever refuses it.

    The plan is of one quantized GEMM, for every device that TensorRT-RTX knows, and no other check
    stands before it: what is told is NVIDIA's own answer.
    """
    found: dict[str, Any] = {"device": device_or_reason(), "compiled_for": list(CAPABILITIES)}
    found["tensorrt_rtx"] = RTX.package().__version__
    with scratch("rtx") as folder:
        save_gemm(folder / ONNX)
        compile_directory(folder, *BUILD)
        found["validity"] = validity((folder / PLAN).read_bytes())
        found["plan"] = ran(folder / PLAN)
    try:
        provider.provider_device()
        found["provider"] = {"takes": True}
    except TargetError as error:
        found["provider"] = {"takes": False, "said": str(error).partition(" Type: ")[0]}
    return found | {"log": list(RTX.logger().lines)[-20:]}


def device_or_reason() -> Any:
    """The GPU, or why there is none."""
    try:
        return device()
    except TargetError as error:
        return str(error)


def validity(plan: bytes) -> dict[str, Any]:
    """`Runtime.get_engine_validity`: VALID, SUBOPTIMAL or INVALID, and the bits of its reasons."""
    try:
        api = RTX.package()
        verdict, bits = RTX.made(api.Runtime).get_engine_validity(plan)
    except Exception as error:  # of the bindings, or of `made`
        return {"said": str(error)}
    kinds = getattr(api, "EngineInvalidityDiagnostics", None)
    members = getattr(kinds, "__members__", {})
    named = [name for name, value in members.items() if int(value) & int(bits)]
    return {"validity": verdict.name, "diagnostics": int(bits), "named": named}


def ran(plan: Path) -> dict[str, Any]:
    """Load a plan and run it once: whether that works, or what was said."""
    try:
        outputs = TensorRtEngine(plan, graphs=False, library=RTX).run(FEEDS)
    except Exception as error:  # whatever it raises is the answer
        return {"runs": False, "said": f"{type(error).__name__}: {error}"}
    return {"runs": True, "finite": all(bool(np.isfinite(a).all()) for a in outputs.values())}


def jit_times(directory: Path, shapes: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Seconds of loading and of the first run of each shape, without and with `kernels.cache`.

    Without comes twice, so that what the driver itself keeps between the two is seen.
    """
    kept = directory / KERNELS
    if not kept.is_file():
        return {"not_run": f"the build left no {KERNELS}"}
    held = kept.read_bytes()
    inputs = read_manifest(directory, "engine")["inputs"]
    found: dict[str, Any] = {"cache_mb": len(held) / 1e6}
    for name, kernels in (("without", b""), ("with", held), ("without again", b"")):
        began = time.perf_counter()
        engine = TensorRtEngine(directory / PLAN, graphs=False, library=RTX, kernels=kernels)
        entry: dict[str, Any] = {"load_s": time.perf_counter() - began}
        for rows, tokens in shapes:
            feeds = probe_feeds(inputs, batch=rows, sequence=tokens)
            for label in ("first", "second"):
                began = time.perf_counter()
                try:
                    engine.run(feeds)
                except QDeployError as error:
                    entry[f"{rows}x{tokens} {label}"] = str(error)
                    continue
                entry[f"{rows}x{tokens} {label}_s"] = time.perf_counter() - began
        found[name] = entry
    return found
