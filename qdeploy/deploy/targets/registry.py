"""The targets: what each can express, and which files of this room are its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.errors import TargetError, VerificationError, choose

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.lowering.cost_model import Costs
    from qdeploy.deploy.lowering.lowered import Lowered
    from qdeploy.deploy.request import Compilation
    from qdeploy.deploy.rules import Violation
    from qdeploy.graph.structure import Structure


HALF = "f16"


@dataclass(frozen=True)
class Target:
    """A place where engines run.

    Attributes:
        name: as typed after `--target`.
        activations: default activation scheme.
        prescale: where factors per channel may stand; default of `PlanOptions.prescale`.
        rest_precisions: what GEMMs in float, attention and elementwise operators may be computed
            in; the first is the default.
        description: one line for `doctor` and the docs.
        lowering: module with `lower(model, plan, structure, tokens) -> Lowered`, and where plans
            have to change for the target, `fit(plan, structure) -> Plan`; where factors and groups
            are weighed against each other, `COSTS`; where the target has rules for quantized graphs
            of anybody, `violations(model) -> list[Violation]`.
        runtime: module with `open_directory(directory, manifest, threads) -> Engine`, and where
            the target compiles, `require()` and `compile_directory(directory, manifest, shape,
            compilation)`.
        compiles: whether an engine is compiled at build time, for one kind of device.
        takes: what of `Compilation` it heeds.
        adds_int8: whether it has residual sums of rounded tensors.
    """

    name: str
    activations: str
    prescale: str
    rest_precisions: tuple[str, ...]
    description: str
    lowering: str
    runtime: str
    compiles: bool = False
    takes: tuple[str, ...] = ()
    adds_int8: bool = False

    def require(self) -> None:
        """Refuse, before any work, what cannot be compiled or run here.

        Raises:
            TargetError: what the target needs is not here, with the way out.
        """
        importlib.import_module(self.runtime).require()

    def compile(
        self, directory: Path, manifest: dict[str, Any], shape: tuple[int, int], how: Compilation
    ) -> dict[str, Any]:
        """Compile the model.onnx of an engine directory; nothing where the target reads ONNX.

        Returns:
            What the manifest is to say of it.
        """
        if not self.compiles:
            return {}
        module = importlib.import_module(self.runtime)
        found: dict[str, Any] = module.compile_directory(directory, manifest, shape, how)
        return found

    def fit(self, plan: Plan, structure: Structure) -> Plan:
        """The plan as the target can express it.

        Raises:
            TargetError: it has no form for something in it.
        """
        module = importlib.import_module(self.lowering)
        fitted: Plan = module.fit(plan, structure) if hasattr(module, "fit") else plan
        return fitted

    @property
    def costs(self) -> Costs | None:
        """Of the forms that a treatment can take there; None where they are not weighed."""
        found: Costs | None = getattr(importlib.import_module(self.lowering), "COSTS", None)
        return found

    def violations(self, model: ir.Model) -> list[Violation]:
        """Where a graph breaks the rules that this target has for quantized ones."""
        module = importlib.import_module(self.lowering)
        found: list[Violation] = module.violations(model) if hasattr(module, "violations") else []
        return found

    def check(self, lowered: ir.Model) -> None:
        """Hold a graph that this project lowered against the target's rules.

        Raises:
            VerificationError: a rule is broken, which is a fault of the lowering.
        """
        from qdeploy.deploy.rules import ERROR

        broken = [found for found in self.violations(lowered) if found.severity == ERROR]
        if broken:
            first = broken[0]
            raise VerificationError(
                f"{len(broken)} nodes of the lowered graph break the rules of {self.name} (first: "
                f"{first.node}: {first.text}). Nothing was written; report this with the model's "
                "architecture."
            )

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
    lowering="qdeploy.deploy.targets.ort_cpu.lower",
    runtime="qdeploy.deploy.targets.ort_cpu.engine",
)
OPENVINO = Target(
    name="openvino",
    activations="asymmetric",
    prescale="everywhere",  # a multiplication becomes part of the rounding
    rest_precisions=("f32", "bf16"),
    description="OpenVINO on the CPU: INT8 GEMMs, the rest in FP32 or BF16",
    lowering="qdeploy.deploy.targets.openvino.lower",
    runtime="qdeploy.deploy.targets.openvino.engine",
)
_BUILDER = ("least", "largest", "workspace_mb", "timing_cache", "refit")
TENSORRT = Target(
    name="tensorrt",
    activations="symmetric",
    prescale="everywhere",
    rest_precisions=(HALF,),
    description="TensorRT 10 and 11: strongly typed int8 and FP16",
    lowering="qdeploy.deploy.targets.tensorrt.lower",
    runtime="qdeploy.deploy.targets.tensorrt.engine",
    compiles=True,
    takes=(*_BUILDER, "version_compatible", "cuda_graph"),
    adds_int8=True,
)
ORT_TENSORRT = replace(
    TENSORRT,
    name="ort-tensorrt",
    description="ONNX Runtime, TensorRT provider (TensorRT 10): int8 and FP16",
    runtime="qdeploy.deploy.targets.ort_tensorrt.engine",
    takes=_BUILDER,
)
ORT_CUDA = Target(
    name="ort-cuda",
    activations="symmetric",
    prescale="everywhere",
    rest_precisions=(HALF,),
    description="ONNX Runtime, CUDA provider: int8 by MatMulInteger, the rest in FP16",
    lowering="qdeploy.deploy.targets.ort_cuda.lower",
    runtime="qdeploy.deploy.targets.ort_cuda.engine",
    compiles=True,
)
TARGETS: dict[str, Target] = {
    target.name: target for target in (ORT_CPU, OPENVINO, ORT_CUDA, ORT_TENSORRT, TENSORRT)
}
REST_PRECISIONS = tuple(dict.fromkeys(p for t in TARGETS.values() for p in t.rest_precisions))
TARGET_NAMES = (*TARGETS, "auto")  # what may be typed; auto is in `qdeploy.autotune.target`


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
        TargetError: unknown, with the nearest name, or not one target.
    """
    if choose("target", name, TARGET_NAMES, TargetError) not in TARGETS:
        raise TargetError(f"'{name}' is no single target. Choose one of: {', '.join(TARGETS)}.")
    return TARGETS[name]
