"""What a build is asked for, with every choice made, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qdeploy.calibrate.options import (
    ANY_CPU,
    EVERYWHERE,
    NATIVE,
    NOISE_TARGET,
    NONE,
    RANKS,
    PlanOptions,
)
from qdeploy.calibrate.schemes import ASYMMETRIC
from qdeploy.calibrate.statistics import Statistics
from qdeploy.deploy.options import AUTO, REMOVED, BuildOptions, Shape, parse_shape
from qdeploy.deploy.targets.base import HALF, Target
from qdeploy.deploy.targets.registry import TARGETS, find_target
from qdeploy.errors import PlanError, StatisticsError, TargetError
from qdeploy.files.artifact import read_manifest
from qdeploy.files.output import check_apart, check_output
from qdeploy.head import head_of
from qdeploy.machine.processor import EXACT, instruction_set
from qdeploy.options import defaults

_USUAL = parse_shape(str(defaults(BuildOptions)["opt_shape"]))


@dataclass(frozen=True)
class Request:
    """One build, with every choice made.

    Attributes:
        model_dir: model directory.
        asked: as it was asked for.
        target: of that name.
        rest: precision of what is not INT8.
        plan: with the target's own where a choice was left out.
        weighs: factors and groups are weighed against each other, where the target knows their
            costs; else the options say which.
    """

    model_dir: Path
    asked: BuildOptions
    target: Target
    rest: str
    plan: PlanOptions
    weighs: bool

    @classmethod
    def of(cls, model_dir: Path, engine_dir: Path, asked: BuildOptions, *, force: bool) -> Request:
        """Make the choices, and refuse what cannot be built, before any work.

        Raises:
            PlanError, TargetError: options that the strategy, the target or the model do not take.
            ModelError: not a model directory.
            OutputError: see `check_paths`.
        """
        from qdeploy.calibrate.strategies import FP8, FP32, needs_statistics  # onnx-ir

        target, calibrated = find_target(asked.target), needs_statistics(asked.strategy)
        plan = asked.plan.resolved(
            target.activations if calibrated and asked.strategy != FP8 else ASYMMETRIC,
            target.pre_quant_scale if asked.strategy == "peg" else NONE,
        )
        if instruction_set() not in EXACT:  # where pairs saturate, codes that do not fit are wrong
            plan = replace(plan, cpu=ANY_CPU)
        rest = target.choose_rest(asked.rest_precision)
        if asked.strategy == FP32 and rest == HALF:
            rest = "f32"  # such an engine has no FP16 in it
        weighs = asked.plan.prescale is None and plan.prescale == EVERYWHERE
        request = cls(model_dir, asked, target, rest, plan, weighs)
        request.check_target()
        if asked.strategy == "peg":
            request = replace(request, plan=plan.reaching(_noise_target(model_dir)))
        longest = int(read_manifest(model_dir, "model")["max_length"])
        check_shape(asked.shape, longest)
        if "min_shape" in target.takes:
            asked.compilation.profile(asked.shape, longest)
        check_paths(model_dir, engine_dir, asked, force=force)
        return request

    @property
    def leaves_out(self) -> bool:
        """Whether work that changes no answer is left out of the graph at all.

        Baselines keep it: FP32 and `dynamic` stay what a runtime makes of the checkpoint.
        """
        from qdeploy.calibrate.strategies import FP16, needs_statistics

        if self.asked.padding != AUTO:
            return self.asked.padding == REMOVED
        return self.asked.strategy == FP16 or needs_statistics(self.asked.strategy)

    def check_statistics(self, statistics: Statistics) -> None:
        """Refuse statistics without what the options need.

        Raises:
            StatisticsError: saying how it is measured.
        """
        needs = {
            "--weight-rounding compensated": (
                *("second moments", "--second-moments"),
                self.asked.compensates and not statistics.has_products,
            ),
            "--sensitivity": (
                *("sensitivity of sites", "--sensitivity"),
                self.asked.weighs_sites and not statistics.has_sensitivity,
            ),
        }
        lacks = {option: (what, flag) for option, (what, flag, missing) in needs.items() if missing}
        if lacks:
            named = " and no ".join(what for what, _ in lacks.values())
            flags = " ".join(flag for _, flag in lacks.values())
            raise StatisticsError(
                f"{statistics.path} has no {named}, which {' and '.join(lacks)} needs. Leave "
                f"--statistics out, or make them: `qdeploy calibrate MODEL_DIR {flags}`."
            )

    @property
    def drops_padding(self) -> bool:
        """Whether padding is to be left out, where the graph allows it."""
        if self.asked.padding != AUTO:
            return self.asked.padding == REMOVED
        return self.target.drops_padding and self.leaves_out

    def check_target(self) -> None:
        """Refuse, before any work, what the target cannot do.

        Raises:
            TargetError: options or a strategy that the target has no use for, or one that does not
                work here.
            PlanError: a timing cache that could not be written.
        """
        from qdeploy.calibrate.strategies import FP8, FP16  # onnx-ir, which an engine lacks

        target, compilation = self.target, self.asked.compilation
        if others := compilation.not_of(target.takes):
            able = [name for name, one in TARGETS.items() if not compilation.not_of(one.takes)]
            way = f", or take --target {' or '.join(able)}" if able else ""
            raise TargetError(
                f"{', '.join(others)}: {target.name} has no use for that. Leave it out{way}."
            )
        if self.plan.int8_residuals and not target.adds_int8:
            able = [name for name, one in TARGETS.items() if one.adds_int8]
            raise TargetError(
                f"--int8-residuals is of targets that add in INT8 ({', '.join(able)}); "
                f"{target.name} does not."
            )
        if self.asked.plan.cpu == NATIVE and target.on_gpu:
            raise TargetError(
                f"--cpu native is of CPU targets; {target.name} is none. Leave it out."
            )
        if self.asked.padding == REMOVED and not target.drops_padding:
            raise TargetError(
                f"--padding removed is of ort-cpu and openvino; {target.name} compiles for shapes "
                "that are known before. Leave it out."
            )
        cache = None if compilation.timing_cache is None else Path(compilation.timing_cache)
        if cache is not None and (cache.is_dir() or not cache.absolute().parent.is_dir()):
            raise PlanError(
                f"--timing-cache {cache} is a folder, or in one that does not exist. Name a file in"
                " a folder that exists."
            )
        if self.asked.strategy == FP16 and not target.on_gpu:
            raise TargetError(
                f"{target.name} has no FP16 engine: the strategy fp16 is of GPU targets. Take fp32."
            )
        target.check_devices(compilation)
        if self.asked.strategy == FP8:
            self._check_fp8()
        target.check_strategy(self.asked.strategy, compilation)
        if not self.asked.dry_run:
            target.require()
            if self.asked.strategy == FP8:
                target.require_fp8()

    def _check_fp8(self) -> None:
        """Refuse FP8 where the target has no kernels for it, or with options of INT8."""
        from qdeploy.calibrate.strategies.fp8 import check_options

        if not self.target.takes_fp8:
            *able, last = (target.name for target in TARGETS.values() if target.takes_fp8)
            raise TargetError(
                f"{self.target.name} does not multiply FP8, so that --strategy fp8 would run in "
                f"float there. Take --target {', '.join(able)} or {last}, or --strategy peg, which "
                "runs in INT8."
            )
        check_options(self.plan)


def _noise_target(model_dir: Path) -> float:
    """What the head asks for, dB: rankings change with less noise than answers do."""
    head = head_of(model_dir, read_manifest(model_dir, "model"))
    return RANKS if head.ranks else NOISE_TARGET


def check_shape(shape: Shape, longest: int) -> None:
    """Refuse a run that the model cannot take; the usual one is cut to what it does take.

    Args:
        shape: rows and tokens of --opt-shape.
        longest: tokens that the model takes.

    Raises:
        PlanError: it has more tokens.
    """
    if shape[1] > longest and shape != _USUAL:
        raise PlanError(
            f"--opt-shape has {shape[1]} tokens, and the model takes at most {longest}. Give "
            f"{shape[0]}x{longest} or less."
        )


def check_paths(source: Path, output: Path, asked: BuildOptions, *, force: bool) -> None:
    """Refuse an output that exists, or that shares a place with anything a build reads.

    Raises:
        OutputError: with what to do next.
    """
    read = (asked.calibration.data, asked.calibration.statistics)
    check_apart(output, [source, *(Path(path) for path in read if path is not None)])
    check_output(output, "engine", force=force)
