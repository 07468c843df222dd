"""The targets: what each can express, and which files of this room are its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.errors import TargetError, choose

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.calibrate.structure import Structure
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowered import Lowered


@dataclass(frozen=True)
class Target:
    """A place where engines run.

    Attributes:
        name: as typed after `--target`.
        activations: default activation scheme.
        prescale: where a factor per channel costs nothing; default of `PlanOptions.prescale`.
        rest_precisions: what GEMMs in float, attention and elementwise operators may be computed
            in; the first is the default.
        description: one line for `doctor` and the docs.
        lowering: module with `lower(model, plan, structure, tokens) -> Lowered`.
        runtime: module with `open_directory(directory, manifest, threads) -> Engine`.
    """

    name: str
    activations: str
    prescale: str
    rest_precisions: tuple[str, ...]
    description: str
    lowering: str
    runtime: str

    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        """The graph of a plan, for runs of so many tokens; `model` is consumed."""
        module = importlib.import_module(self.lowering)
        lowered: Lowered = module.lower(model, plan, structure, tokens)
        return lowered

    def open(self, directory: Path, manifest: dict[str, Any], threads: int) -> Engine:
        """Load an engine directory of this target.

        Raises:
            ModelError: its file is missing or damaged.
            TargetError: what the target needs is not installed.
        """
        module = importlib.import_module(self.runtime)
        engine: Engine = module.open_directory(directory, manifest, threads)
        return engine


ORT_CPU = Target(
    name="ort-cpu",
    activations="asymmetric",
    prescale="folded",
    rest_precisions=("f32",),
    description="ONNX Runtime, CPU provider: uint8 activations, int8 weights",
    lowering="qdeploy.deploy.lower_ort_cpu",
    runtime="qdeploy.deploy.ort_cpu_engine",
)
OPENVINO = Target(
    name="openvino",
    activations="asymmetric",
    prescale="everywhere",  # a multiplication becomes part of the rounding
    rest_precisions=("f32", "bf16"),
    description="OpenVINO on the CPU: INT8 GEMMs, the rest in FP32 or BF16",
    lowering="qdeploy.deploy.lower_openvino",
    runtime="qdeploy.deploy.openvino_engine",
)
TARGETS: dict[str, Target] = {target.name: target for target in (ORT_CPU, OPENVINO)}
TARGET_NAMES = (*TARGETS, "auto")  # what may be typed; auto is in `qdeploy.auto`


def choose_rest(target: Target, wanted: str | None) -> str:
    """The precision of what is not INT8.

    Raises:
        TargetError: the target does not have it.
    """
    if wanted is None:
        return target.rest_precisions[0]
    if wanted not in target.rest_precisions:
        raise TargetError(
            f"{target.name} computes what is not INT8 in {' or '.join(target.rest_precisions)}, "
            f"not in {wanted}. Leave --rest-precision out, or take another target."
        )
    return wanted


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        TargetError: unknown, with the nearest name.
    """
    return TARGETS[choose("target", name, TARGET_NAMES, TargetError)]
