"""`--target auto`: build for every target that works here, time them, keep the fastest."""

from __future__ import annotations

from pathlib import Path

from qdeploy.autotune.timing import calibrate_once, keep, noise_of, times_of
from qdeploy.autotune.treatment import build_measured, measures
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.request import check_paths, check_shape
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import PlanError, QDeployError, RunError, TargetError, VerificationError
from qdeploy.files.artifact import read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.machine.threads import usable_cores
from qdeploy.options import changed
from qdeploy.schemas.autotune import TargetChoice
from qdeploy.schemas.built import Built
from qdeploy.types import PathLike, Progress

NAME = "auto"


def build_fastest(
    model_dir: PathLike,
    engine_dir: PathLike,
    asked: BuildOptions,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build for each target, time all engines in alternating rounds at `opt_shape`, keep one.

    Args:
        asked: of the build; its target is not read.

    Returns:
        What `build_engine` returns for the engine that was kept, and "auto": {"shape": [B, S],
        "threads", "p50_ms": {target: ms}, "skipped": {target: reason}}, which stands in the
        engine's manifest too.

    Raises:
        TargetError: no target works here, or none takes these options.
        PlanError, ModelError, DataError, OutputError: see `qdeploy.api.build`.
    """
    if asked.dry_run:
        raise PlanError("--dry-run builds nothing that could be timed. Name a target with it.")
    source, output = Path(model_dir), Path(engine_dir)
    check_shape(asked.shape, int(read_manifest(source, "model")["max_length"]))
    check_paths(source, output, asked, force=force)
    shared = changed(calibrate_once(source, asked, progress), measure=False)
    with scratch("auto") as folder:
        built: dict[str, Built] = {}
        skipped: dict[str, str] = {}
        for target in TARGETS:
            if progress is not None:
                progress(f"build for {target}", 0, 1)
            try:
                health = TARGETS[target].diagnose()
                if not health.works:
                    raise TargetError(health.detail)
                own = changed(shared, target=target)
                make = build_measured if measures(own) else build_engine
                built[target] = make(source, folder / target, own)
            except (TargetError, VerificationError, RunError) as error:
                skipped[target] = str(error)
            except QDeployError:  # the model, the rows or an option: the same on every target
                raise
            except Exception as error:  # a runtime that breaks is no reason to lose the others
                skipped[target] = f"{type(error).__name__}: {error}"
        if not built:
            reasons = " ".join(f"{target}: {reason}" for target, reason in skipped.items())
            raise TargetError(f"No target takes this build. {reasons}")
        shape, p50 = times_of({name: folder / name for name in built}, asked.shape, progress)
        best = min(p50, key=p50.__getitem__)
        choice: TargetChoice = {
            "shape": list(shape),
            "threads": usable_cores(),
            "p50_ms": p50,
            "skipped": skipped,
        }
        if asked.measure and progress is not None:
            progress("measure", 0, 1)
        noise = None
        if asked.measure:
            statistics = shared.calibration.statistics
            noise = noise_of(source, folder / best, statistics, asked.calibration)
        keep(folder / best, output, {"auto": choice, "noise": noise}, force=force)
    return {**built[best], "auto": choice, "noise": noise}
