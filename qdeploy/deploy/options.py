"""The options of a build."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qdeploy import common_options as common
from qdeploy.calibrate.options import (
    BUILDER,
    COMPENSATED,
    OTHERS,
    CalibrationOptions,
    PlanOptions,
)
from qdeploy.deploy.cuda import version_of
from qdeploy.errors import PlanError, TargetError
from qdeploy.options import OUTPUT, Options, defaults, flat, nested, option, specs
from qdeploy.types import OwnMetric, PathLike

# Headings of help; a test holds those of targets against what the targets take.
ENGINE = "What to build"
TENSORRT = "Only with --target tensorrt"
RTX = "Only with --target tensorrt-rtx or ort-tensorrt-rtx"
GRAPHS = "Only with --target tensorrt, tensorrt-rtx or ort-tensorrt-rtx"
DEVICE = "Only with --target tensorrt or ort-tensorrt"
_CAPABILITY = re.compile(r"[1-9]\d?\.\d")
_LARGEST_ROWS = 32  # of a run, where --max-shape is left out
AUTO, REMOVED, KEPT = "auto", "removed", "kept"  # padding
Shape = tuple[int, int]  # rows and tokens of a run


@dataclass(frozen=True)
class CompileOptions(Options):
    """How a target that compiles is to do it; others take the defaults only."""

    min_shape: str | None = option(
        None, "The smallest run; 1x2 when left out.", group=BUILDER, metavar="ROWSxTOKENS"
    )
    max_shape: str | None = option(
        None,
        "The largest run; 32 rows of full length when left out.",
        group=BUILDER,
        metavar="ROWSxTOKENS",
    )
    workspace_mb: int | None = option(
        None,
        "Scratch memory that kernels may use; all there is when left out.",
        group=DEVICE,
        number=int,
        least=1,
        metavar="MB",
    )
    timing_cache: PathLike | None = option(
        None,
        "Keeps the timings of kernels from build to build.",
        group=DEVICE,
        is_path=True,
        metavar="FILE",
    )
    refit: bool = option(False, "The engine's weights can be replaced.", group=DEVICE)
    version_compatible: bool = option(
        False, "The engine runs under later versions of TensorRT too.", group=TENSORRT
    )
    cuda_graph: bool = option(True, "Launch a run as one CUDA graph.", group=GRAPHS, negated=True)
    compute_capability: Sequence[str] | str = option(
        (),
        "The GPUs that the engine is for: 8.6 is RTX 30, 8.9 RTX 40. All that take the strategy"
        " when left out.",
        group=RTX,
        metavar="M.N,...",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, shape in (("--min-shape", self.min_shape), ("--max-shape", self.max_shape)):
            if shape is not None:
                parse_shape(shape, name)
        object.__setattr__(self, "compute_capability", _capabilities(self.compute_capability))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities that were named, in rising order."""
        return tuple(self.compute_capability)

    def profile(self, usual: Shape, longest: int) -> dict[str, Shape]:
        """Rows and tokens of the smallest, the usual and the largest run.

        Args:
            usual: asked for; tokens beyond `longest` are cut off.
            longest: tokens that the model takes.

        Returns:
            {"min", "opt", "max"}.

        Raises:
            PlanError: they do not rise, or the largest is longer than the model takes.
        """
        least = (1, min(2, longest))
        if self.min_shape is not None:
            least = parse_shape(self.min_shape)
        usual = (usual[0], min(usual[1], longest))
        largest = (max(_LARGEST_ROWS, usual[0]), longest)
        if self.max_shape is not None:
            largest = parse_shape(self.max_shape)
        if largest[1] > longest:
            raise PlanError(
                f"--max-shape has {largest[1]} tokens, and the model takes at most {longest}."
            )
        for at, what in enumerate(("rows", "tokens")):
            if not least[at] <= usual[at] <= largest[at]:
                raise PlanError(
                    f"--min-shape, --opt-shape and --max-shape have {least[at]}, {usual[at]} and "
                    f"{largest[at]} {what}, which do not rise. Give a larger --max-shape, or a "
                    "smaller --opt-shape or --min-shape."
                )
        return {"min": least, "opt": usual, "max": largest}

    def not_of(self, takes: tuple[str, ...]) -> list[str]:
        """The options that are set, and that a target does not heed, as they are typed."""
        plain, known = defaults(type(self)), specs(type(self))
        changed = [name for name, value in flat(self).items() if value != plain[name]]
        return [
            f"--{'no-' if known[name].negated else ''}{name.replace('_', '-')}"
            for name in changed
            if name not in takes
        ]


@dataclass(frozen=True)
class BuildOptions(Options):
    """What a build is asked for; `max_drop` and `metric` are of the strategy `auto`."""

    strategy: str = option(
        "peg",
        "How activations are quantized: docs/strategies.md. auto tries several: of those that hold"
        " --max-drop and are within 3 % of the fastest, it keeps the highest SQNR of the logits.",
        group=ENGINE,
        choices="qdeploy.calibrate.strategies:STRATEGY_NAMES",
    )
    target: str = option(
        "ort-cpu",
        "What the engine runs on: docs/targets.md. auto keeps the fastest that works here.",
        group=ENGINE,
        choices="qdeploy.deploy.targets.registry:TARGET_NAMES",
        error=TargetError,
    )
    opt_shape: str = option(
        "8x128",
        "Shape of the runs that the engine is tuned for; it takes every other shape too.",
        group=ENGINE,
        metavar="ROWSxTOKENS",
    )
    rest_precision: str | None = option(
        None,
        "Precision of what is not INT8, where a target has several. Its own when left out.",
        group=ENGINE,
        choices="qdeploy.deploy.targets.registry:REST_PRECISIONS",
        error=TargetError,
    )
    padding: str = option(
        "auto",
        "Whether engines compute padding, and tokens of the last layer that the head does not read:"
        " docs/padding.md. auto leaves both out where the outputs stay the same: padding on the CPU"
        " targets, for strategies with fixed scales. kept computes everything.",
        group=ENGINE,
        choices=(AUTO, REMOVED, KEPT),
    )
    calibration: CalibrationOptions = nested(CalibrationOptions)
    plan: PlanOptions = nested(PlanOptions)
    max_drop: float | None = common.max_drop(
        "auto: accuracy points, or hundredths of the metric, that may be lost. 0.3 when left out, 5"
        " of recall@10.",
        OTHERS,
    )
    metric: OwnMetric | str | None = option(
        None,
        "auto: what may not drop. The head's own when left out: accuracy, spearman, entity-f1,"
        " recall@10 of embeddings. MODULE:FUNCTION is one of yours: docs/strategies.md.",
        group=OTHERS,
        metavar="[NAME|MODULE:FUNCTION]",
    )
    compilation: CompileOptions = nested(CompileOptions)
    measure: bool = option(
        True,
        "Hold the engine against FP32 on 32 calibration rows; warn of logits that are too noisy.",
        group=OUTPUT,
        negated=True,
    )
    dry_run: bool = option(
        False,
        "Stop after lowering; the ONNX file is written, nothing is compiled.",
        group=OUTPUT,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_shape(self.opt_shape)
        if self.max_drop is not None and self.strategy != "auto":
            raise PlanError(
                "--max-drop of build is for --strategy auto; `qdeploy eval` has one too."
            )
        if self.metric is not None and self.strategy != "auto":
            raise PlanError("--metric is for --strategy auto. Leave it out, or pass both.")

    @property
    def shape(self) -> Shape:
        """Rows and tokens of the runs that the engine is tuned for."""
        return parse_shape(self.opt_shape)

    @property
    def compensates(self) -> bool:
        """Whether the plan needs second moments."""
        return self.strategy == "peg" and self.plan.weight_rounding == COMPENSATED

    @property
    def weighs_sites(self) -> bool:
        """Whether the plan needs the sensitivity of sites."""
        return self.strategy == "peg" and self.plan.sensitivity


def _capabilities(named: Sequence[str] | str) -> tuple[str, ...]:
    """A list of compute capabilities, also as one text with commas; each once, in rising order.

    Raises:
        PlanError: one that is no pair of numbers.
    """
    listed = named.split(",") if isinstance(named, str) else named
    found = {one.strip() for one in map(str, listed) if one.strip()}
    for one in sorted(found):
        if not _CAPABILITY.fullmatch(one):
            raise PlanError(
                f"--compute-capability {one!r} is none. Write major and minor number, as NVIDIA "
                "lists them: 8.6 for an RTX 3050, 8.9 for an RTX 4090."
            )
    return tuple(sorted(found, key=version_of))


def parse_shape(text: str, flag: str = "--opt-shape") -> Shape:
    """Rows and tokens of a run.

    Raises:
        PlanError: not two whole numbers above 0.

    >>> parse_shape("8x128")
    (8, 128)
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise PlanError(
            f"{flag} {text!r} is no shape. Write rows and tokens of a run, for example 8x128."
        )
    return int(match[1]), int(match[2])
