"""What a build is asked for, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from qdeploy.calibrate.options import AUTO, GEMM_SCOPE, NONE, PlanOptions
from qdeploy.deploy.targets.base import Target
from qdeploy.errors import PlanError, TargetError
from qdeploy.files.output import check_apart, check_output

_FLAGS = {"least": "--min-shape", "largest": "--max-shape", "cuda_graph": "--no-cuda-graph"}
USUAL_SHAPE = "8x128"  # of --opt-shape
_LARGEST_ROWS = 32  # of a run, where --max-shape is left out


@dataclass(frozen=True)
class Compilation:
    """How a target that compiles is to do it; targets that read ONNX files take the defaults only.

    Attributes:
        least, largest: rows and tokens of the smallest and largest run; None for the target's own.
        workspace_mb: scratch memory that kernels may use, 10⁶ bytes; None for all there is.
        timing_cache: file that keeps kernel timings from build to build.
        version_compatible: the engine runs under later versions too.
        refit: its weights can be replaced.
        cuda_graph: runs are launched as one CUDA graph.
    """

    least: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    workspace_mb: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    refit: bool = False
    cuda_graph: bool = True

    def profile(self, usual: tuple[int, int], longest: int) -> dict[str, tuple[int, int]]:
        """Rows and tokens of the smallest, the usual and the largest run.

        Args:
            usual: asked for; tokens beyond `longest` are cut off.
            longest: tokens that the model takes.

        Returns:
            {"min", "opt", "max"}.

        Raises:
            PlanError: they do not rise, or the largest is longer than the model takes.
        """
        least = self.least or (1, min(2, longest))
        usual = (usual[0], min(usual[1], longest))
        largest = self.largest or (max(_LARGEST_ROWS, usual[0]), longest)
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

    def not_of(self, target: Target) -> list[str]:
        """The options that are set, and that a target does not heed, as they are typed."""
        plain = Compilation()
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)]
        names = [name for name in changed if name not in target.takes]
        return [_FLAGS.get(name, f"--{name.replace('_', '-')}") for name in names]


@dataclass(frozen=True)
class Request:
    """One build, with every choice made.

    Attributes:
        weighs: factors and groups are weighed against each other, where the target knows their
            costs; else the options say which.
    """

    model_dir: Path
    strategy: str
    target: Target
    rest: str
    options: PlanOptions
    shape: tuple[int, int]
    seed: int
    weighs: bool = False
    compilation: Compilation = Compilation()


def names_of(names: Sequence[str] | str) -> tuple[str, ...]:
    """A list of names, also as one text with commas."""
    found = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip() for name in found if name.strip())


def parse_shape(text: str, flag: str = "--opt-shape") -> tuple[int, int]:
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


def check_shape(shape: tuple[int, int], longest: int) -> None:
    """Refuse a run that the model cannot take; the usual one is cut to what it does take.

    Args:
        shape: rows and tokens of --opt-shape.
        longest: tokens that the model takes.

    Raises:
        PlanError: it has more tokens.
    """
    if shape[1] > longest and shape != parse_shape(USUAL_SHAPE):
        raise PlanError(
            f"--opt-shape has {shape[1]} tokens, and the model takes at most {longest}. Give "
            f"{shape[0]}x{longest} or less."
        )


def check_paths(
    source: Path,
    output: Path,
    data: str | None,
    statistics: str | Path | None,
    *,
    force: bool,
) -> None:
    """Refuse an output that exists, or that shares a place with anything a build reads.

    Raises:
        OutputError: with what to do next.
    """
    check_apart(output, [source, *(Path(path) for path in (data, statistics) if path is not None)])
    check_output(output, "engine", force=force)


def check_target(
    target: Target,
    strategy: str,
    options: PlanOptions,
    compilation: Compilation,
    *,
    dry_run: bool,
) -> None:
    """Refuse, before any work, what the target cannot do.

    Raises:
        TargetError: options or a strategy that the target has no use for, or one that does not work
            here.
        PlanError: a timing cache that could not be written.
    """
    if others := compilation.not_of(target):
        raise TargetError(
            f"{', '.join(others)}: {target.name} has no use for that. Leave it out, or take "
            "--target tensorrt."
        )
    if options.int8_residuals and not target.adds_int8:
        raise TargetError(
            f"--int8-residuals is of targets that add in INT8 (tensorrt); {target.name} does not."
        )
    cache = compilation.timing_cache
    if cache is not None and (cache.is_dir() or not cache.absolute().parent.is_dir()):
        raise PlanError(
            f"--timing-cache {cache} is a folder, or in one that does not exist. Name a file in a "
            "folder that exists."
        )
    from qdeploy.calibrate.strategies import FP16  # onnx-ir, which an engine does without

    if strategy == FP16 and not target.on_gpu:
        raise TargetError(
            f"{target.name} has no FP16 engine: the strategy fp16 is of GPU targets. Take fp32."
        )
    if not dry_run:
        target.require()


def prescale_of(target: Target, strategy: str, scope: str, groups: int | str) -> str:
    """The target's own with automatic groups; none where K is given, so that groupings compare."""
    automatic = strategy == "peg" and scope == GEMM_SCOPE and groups == AUTO
    return target.prescale if automatic else NONE
