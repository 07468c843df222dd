"""Whether `tensorrt-rtx` builds on this machine, and whether it runs, found out by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.health import Health
from qdeploy.deploy.targets.tensorrt import proof
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.directory import LAYERS, ONNX
from qdeploy.deploy.targets.tensorrt_rtx.directory import compile_directory, open_directory
from qdeploy.deploy.trial import BUILD, FEEDS, FIELDS, TRACE_NAMES, only, save_gemm, tried_on_gpu
from qdeploy.errors import TargetError
from qdeploy.files.scratch import scratch


def diagnose(install: str) -> Health:
    """Build a plan of one GEMM, look for INT8 in its layers, and run it where there is a GPU.

    Args:
        install: what to type where it does not work.
    """
    return built_and(lambda version: tried_on_gpu(version, attempt, install), install)


def built_and(runs: Callable[[str], Health], install: str) -> Health:
    """Build a plan of one GEMM, look for INT8 in its layers, and say whether it runs here.

    Args:
        runs: of the builder's version, whether plans run here.
        install: what to type where nothing is built.
    """
    try:
        version = f"{RTX.title} {RTX.package().__version__}"
    except TargetError as error:
        detail = str(error).partition(" Type: ")[0]
        return Health(False, detail, install, builds=False)
    try:
        with scratch("doctor") as folder:
            kernel = compiled(folder)
    except Exception as error:  # whatever it raises is the diagnosis
        return Health(False, f"{version} built nothing: {error}", install, builds=False)
    if not kernel.int8:
        text = f"{version} compiles a quantized GEMM in float ({kernel.fallback_reason})."
        return Health(False, text, install, builds=False)
    found = runs(version)
    text = f"{version} builds engines here, with INT8 GEMMs. "
    text += "They run here: " if found.works else "They do not run here: "
    reason = found.detail.removeprefix(f"{version}, but ")
    return replace(found, detail=text + reason, builds=True)


def compiled(folder: Path) -> KernelTime:
    """What one quantized GEMM is compiled to."""
    save_gemm(folder / ONNX)
    compile_directory(folder, *BUILD)
    layers = (folder / LAYERS).read_text("utf-8")
    found = proof.compilation_of(layers, proof.CAPABILITIES, TRACE_NAMES)
    return only(found.trace.gemms["gemm"])


def attempt(folder: Path) -> KernelTime:
    """The kernel of one quantized GEMM that ran."""
    save_gemm(folder / ONNX)
    built = compile_directory(folder, *BUILD)
    engine = open_directory(folder, {**FIELDS, **built}, threads=1)
    return only(engine.trace_gemms(TRACE_NAMES, FEEDS, 1).gemms["gemm"])
