"""A graph of ours as a real TensorRT compiles it, on a machine without a GPU: TensorRT-RTX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qdeploy.deploy.compilation import Compilation
from qdeploy.deploy.cuda import FP8_FROM, version_of
from qdeploy.deploy.engine import KernelTrace
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.builder import build_plan
from qdeploy.deploy.targets.tensorrt.directory import ONNX, profile_of
from qdeploy.deploy.targets.tensorrt.dump import kernels_of, layers_json
from qdeploy.names import eight_bits
from qdeploy.schemas.manifest import EngineFields

# Turing, the two Amperes, Ada and the two Blackwells; 1.7 knows no Hopper.
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
# By strategy, the first device that has its products: FP32's are refused for Turing.
_FROM = {"fp8": FP8_FROM, "fp32": (8, 0)}


def is_installed() -> bool:
    """Whether TensorRT-RTX is here."""
    try:
        RTX.package()
    except Exception:  # what is wrong with it `doctor` says
        return False
    return True


def devices_of(strategy: str, devices: Sequence[str]) -> tuple[str, ...]:
    """Of compute capabilities ("8.6") those that have a strategy's products in TensorRT-RTX."""
    return tuple(one for one in devices if version_of(one) >= _FROM.get(strategy, (0,)))


def capabilities_of(manifest: EngineFields, named: Sequence[str]) -> tuple[str, ...]:
    """What an engine is compiled for: as named, else all that multiply what it multiplies."""
    return tuple(named) or devices_of(manifest["strategy"], CAPABILITIES)


def known_capabilities() -> tuple[str, ...]:
    """Those that the installed version builds for; of 1.7 where there is none."""
    if not is_installed():
        return CAPABILITIES
    names = [name[2:] for name in vars(RTX.package().ComputeCapability) if name[:2] == "SM"]
    found = [f"{name[:-1]}.{name[-1]}" for name in names if name.isdecimal()]
    return tuple(sorted(found, key=version_of))


def first_of(manifest: EngineFields) -> tuple[str, ...]:
    """What a dry run is compiled for: RTX 30, whose relatives make most of what is there; of FP8
    RTX 40."""
    return first_of_kind(fp8=eight_bits(manifest["strategy"]) == "FP8")


def first_of_kind(*, fp8: bool) -> tuple[str, ...]:
    """The same of a graph of anybody."""
    return ("8.9",) if fp8 else ("8.6",)


def compile_graph(
    directory: Path, manifest: EngineFields, how: CompileOptions, capabilities: tuple[str, ...]
) -> str:
    """Layers of the engine that model.onnx becomes, JSON; the plan is not kept.

    Raises:
        ModelError, TargetError: see `build_plan`.
    """
    rows, tokens = manifest["opt_shape"]
    _, settings = profile_of(manifest, (rows, tokens), how)
    built = build_plan(directory / ONNX, replace(settings, capabilities=capabilities), RTX)
    return layers_json(built.dump, RTX.title)


def compilation_of(
    layers: str, capabilities: Sequence[str], gemms: Mapping[str, Sequence[TraceName]]
) -> Compilation:
    """The kernels that stand for GEMMs in the layers of an engine.

    Args:
        layers: of `layers_json`.
        capabilities: that it was compiled for.
        gemms: GEMM name → the names that its lowering left.
    """
    found = inspector.layers(layers)
    kernels = inspector.kernels(found, {})
    return Compilation(
        f"{RTX.title} {RTX.package().__version__}",
        tuple(capabilities),
        KernelTrace(inspector.of_gemms(found, kernels, gemms), kernels),
        kernels_of(json.loads(layers)["Layers"]),
        layers,
    )
