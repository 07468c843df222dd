"""What a target is: what it can express, and where the code is that is its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from qdeploy.errors import TargetError, VerificationError
from qdeploy.schemas.manifest import CompiledFields, EngineFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.compilation import Compilation
    from qdeploy.deploy.engine import Engine
    from qdeploy.deploy.health import Health
    from qdeploy.deploy.lowering.cost_model import Costs
    from qdeploy.deploy.lowering.lowered import Lowered, TraceName
    from qdeploy.deploy.options import CompileOptions
    from qdeploy.deploy.rules import BrokenRule
    from qdeploy.graph.structure import Structure
    from qdeploy.schemas.inspection import CompiledFile

HALF = "f16"


@dataclass(frozen=True)
class Snippet:
    """How an engine's file runs without qdeploy, on `feeds`: int64 [rows, tokens] by input name.

    Attributes:
        heading: name of the runtime, as a heading says it.
        imports: lines that import it.
        run: lines that load the file and make `outputs`, arrays by output name; a command where the
            language is not Python.
        packages: to install for it.
        language: of the lines, "python" or "sh".
    """

    heading: str
    imports: str
    run: str
    packages: tuple[str, ...] = ()
    language: str = "python"


def onnx_runtime_snippet(given: str) -> Snippet:
    """Of ONNX Runtime, with these arguments of a session."""
    run = f"""engine = onnxruntime.InferenceSession(
    "model.onnx", {given}
)
names = [output.name for output in engine.get_outputs()]
outputs = dict(zip(names, engine.run(None, feeds)))"""
    packages = ("onnxruntime", "tokenizers", "numpy")
    return Snippet("ONNX Runtime", "import onnxruntime", run, packages)


class Target(ABC):
    """A place where engines run. Each has a folder, a class in its `target.py`, and one instance.

    Its methods import what they need when they are called: a machine that runs engines has no use
    for the packages that make them.

    Attributes:
        name: as typed after `--target`.
        description: one line for `doctor` and the docs.
        activations: default activation scheme, "asymmetric" (uint8) or "symmetric" (int8).
        pre_quant_scale: where pre-quantization scales may stand; default of `PlanOptions.prescale`.
        rest_precisions: what GEMMs in float, attention and elementwise operators may be computed
            in; the first is the default.
        compiles: whether an engine is compiled at build time, for one kind of device.
        ahead_of_time: whether that needs no device: it is then opened elsewhere.
        takes: what of `CompileOptions` it heeds.
        adds_int8: whether it has residual sums of rounded tensors.
        takes_fp8: whether it multiplies E4M3 (strategy `fp8`).
        drops_padding: whether runs gain from `remove_padding`, whose shapes depend on the data.
        script: section of the template of `predict.py` that runs it; None where it has none.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    activations: ClassVar[str] = "asymmetric"
    pre_quant_scale: ClassVar[str] = "everywhere"
    rest_precisions: ClassVar[tuple[str, ...]] = ("f32",)
    compiles: ClassVar[bool] = False
    ahead_of_time: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()
    adds_int8: ClassVar[bool] = False
    takes_fp8: ClassVar[bool] = False
    drops_padding: ClassVar[bool] = False
    script: ClassVar[str | None] = None

    @property
    def on_gpu(self) -> bool:
        """Whether it computes in FP16, on a GPU."""
        return HALF in self.rest_precisions

    @property
    def costs(self) -> Costs | None:
        """Of the forms that a treatment can take there; None where they are not weighed."""
        return None

    @property
    def has_rules(self) -> bool:
        """Whether it has rules for quantized graphs of anybody."""
        return type(self).broken_rules is not Target.broken_rules

    @abstractmethod
    def lower(self, model: ir.Model, plan: Plan, structure: Structure, tokens: int) -> Lowered:
        """The graph of a plan, for runs of so many tokens; `model` is consumed."""

    @abstractmethod
    def open(self, directory: Path, manifest: EngineFields, threads: int) -> Engine:
        """Load an engine directory of this target.

        Raises:
            ModelError: its file is missing or damaged.
            TargetError: what the target needs is not installed.
        """

    @abstractmethod
    def diagnose(self) -> Health:
        """Run one quantized GEMM, and say which kernel took it, or why it did not run."""

    @abstractmethod
    def install_hint(self) -> str:
        """What to type where it is missing."""

    @abstractmethod
    def snippet(self) -> Snippet:
        """How its file runs without qdeploy."""

    def require(self) -> None:  # noqa: B027  (most need nothing more than what they import)
        """Refuse, before any work, what cannot be compiled or run here.

        Raises:
            TargetError: what the target needs is not here, with the way out.
        """

    def check_devices(self, how: CompileOptions) -> None:  # noqa: B027
        """Refuse, before any work, devices that are named and never run its engines.

        Raises:
            TargetError: with the way out.
        """

    def devices_of(self, strategy: str, devices: Sequence[str]) -> tuple[str, ...]:
        """Of compute capabilities ("8.6") those that have a strategy's products."""
        del strategy
        return tuple(devices)

    def check_strategy(self, strategy: str, how: CompileOptions) -> None:  # noqa: B027
        """Refuse a strategy that devices which are named do not have.

        Raises:
            TargetError: with the way out.
        """

    def require_fp8(self) -> None:  # noqa: B027
        """Refuse, before any work, FP8 that the device at hand does not multiply.

        Raises:
            TargetError: the device has no such kernels, with the way out.
        """

    def fit(self, plan: Plan, structure: Structure) -> Plan:
        """The plan as the target can express it.

        Raises:
            TargetError: it has no form for something in it.
        """
        del structure
        return plan

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        """Compile the model.onnx of an engine directory; nothing where the target reads ONNX.

        Returns:
            What the manifest is to say of it.
        """
        del directory, manifest, shape, how
        return {}

    def runs_here(self) -> bool:
        """Whether an engine that was compiled can be run at once; True where that needs no asking.

        Targets that compile for a device at hand refuse before, in `require`.
        """
        return True

    def open_built(self, directory: Path, manifest: EngineFields, threads: int) -> Engine | None:
        """The engine that was just compiled; None where no device is at hand that runs it."""
        return self.open(directory, manifest, threads)

    def compilation(
        self,
        directory: Path,
        manifest: EngineFields,
        gemms: Mapping[str, Sequence[TraceName]],
        how: CompileOptions,
    ) -> Compilation | None:
        """What a compiler without a device makes of an engine's graph; None where there is none.

        Args:
            directory: with its model.onnx.
            manifest: of the engine.
            gemms: GEMM name → the names that its lowering left.
            how: as in `compile`.
        """
        del directory, manifest, gemms, how
        return None

    @property
    def compiles_files(self) -> bool:
        """Whether a compiler is installed that needs no device."""
        return False

    def compile_file(self, path: Path) -> CompiledFile:
        """What that compiler makes of an ONNX file of anybody; `foreign` asks it.

        Raises:
            ModelError: not readable as ONNX.
            TargetError: there is no such compiler for this target.
        """
        raise TargetError(f"{path}: no compiler of {self.name} does without a device.")

    def finish(self, directory: Path, engine: Engine | None) -> None:  # noqa: B027  (most do not)
        """Put in order what is no longer needed, or what was made since, when all is measured.

        Args:
            engine: of `open_built`.
        """

    def broken_rules(self, model: ir.Model) -> list[BrokenRule]:
        """Where a graph breaks the rules that this target has for quantized ones."""
        del model
        return []

    def check(self, lowered: ir.Model) -> None:
        """Hold a graph that this project lowered against the target's rules.

        Raises:
            VerificationError: a rule is broken, which is a fault of the lowering.
        """
        from qdeploy.deploy.rules import ERROR

        broken = [found for found in self.broken_rules(lowered) if found.severity == ERROR]
        if broken:
            first = broken[0]
            raise VerificationError(
                f"{len(broken)} nodes of the lowered graph break the rules of {self.name} (first: "
                f"{first.node}: {first.text}). Nothing was written; report this with the model's "
                "architecture."
            )

    def choose_rest(self, wanted: str | None) -> str:
        """The precision of what is not INT8.

        Raises:
            TargetError: the target does not have it.
        """
        if wanted is None:
            return self.rest_precisions[0]
        if wanted not in self.rest_precisions:
            raise TargetError(
                f"{self.name} computes what is not INT8 in {' or '.join(self.rest_precisions)}, "
                f"not in {wanted}. Leave --rest-precision out, or take another target."
            )
        return wanted


class HalfTarget(Target):
    """A target on a GPU: int8 without zero points, all else in FP16, compiled for the device."""

    activations = "symmetric"
    rest_precisions = (HALF,)
    compiles = True

    def fit(self, plan: Plan, structure: Structure) -> Plan:
        """The plan on scales that FP16 holds."""
        from qdeploy.deploy.lowering.fp16_scales import fit_to_half

        return fit_to_half(plan, structure, self.name)
