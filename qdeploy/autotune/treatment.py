"""`peg` on a target that compiles: which form its treatment takes, by the time that each needs.

What `qdeploy.deploy.lowering.cost_model` estimates is the first candidate; factors wherever they
suffice and groups alone are the others. Plans that come out the same are built once.
"""

from __future__ import annotations

from pathlib import Path

from qdeploy.autotune.timing import calibrate_once, keep, noise_of, times_of
from qdeploy.calibrate.options import AUTO, EVERYWHERE, GEMM_SCOPE, NONE
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.request import check_paths, check_shape
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import ModelError, TargetError
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.options import changed
from qdeploy.schemas.autotune import Forms
from qdeploy.schemas.built import Built
from qdeploy.types import PathLike, Progress

# By name, as it stands in the manifest: the option `prescale` of the build.
_FORMS: dict[str, str | None] = {"estimated": None, "factors": EVERYWHERE, "groups": NONE}


def measures(asked: BuildOptions) -> bool:
    """Whether a build leaves its forms open, on a target where they are measured."""
    found = TARGETS.get(asked.target)
    if asked.strategy != "peg" or found is None or found.costs is None or asked.dry_run:
        return False
    if not found.runs_here():  # it is compiled all the same, with the form that the estimate takes
        return False
    plan = asked.plan
    return plan.prescale is None and plan.groups == AUTO and plan.scope == GEMM_SCOPE


def build_measured(
    model_dir: PathLike,
    engine_dir: PathLike,
    asked: BuildOptions,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build `peg` in each form, time the engines in alternating rounds at `opt_shape`, keep one.

    Returns:
        What `build_engine` returns for the engine that was kept, whose "forms" has "shape",
        "p50_ms" {form: ms} and "kept" beside the estimate, in the engine's manifest too.

    Raises:
        TargetError: the target does not work here.
        PlanError, ModelError, DataError, OutputError: see `qdeploy.api.build`.
    """
    source, output, target = Path(model_dir), Path(engine_dir), TARGETS[asked.target]
    target.require()
    check_shape(asked.shape, int(read_manifest(source, "model")["max_length"]))
    check_paths(source, output, asked, force=force)
    shared = changed(calibrate_once(source, asked, progress), measure=False)
    with scratch("forms") as folder:
        if "timing_cache" in target.takes and asked.compilation.timing_cache is None:
            shared = changed(shared, timing_cache=folder / "timing.cache")  # most kernels are alike
        plans: dict[str, list[object]] = {}
        for name, pre_quant_scale in _FORMS.items():
            dry = folder / f"dry-{name}"
            if progress is not None:
                progress(f"plan of {name}", 0, 1)
            build_engine(source, dry, changed(shared, prescale=pre_quant_scale, dry_run=True))
            treatments = [site["treatment"] for site in read_json(dry / "plan.json")["sites"]]
            if treatments not in plans.values():
                plans[name] = treatments
        built: dict[str, Built] = {}
        failed: dict[str, str] = {}
        for name in plans:
            form = changed(shared, prescale=_FORMS[name])
            try:
                built[name] = build_engine(source, folder / name, form, progress=progress)
            except (TargetError, ModelError) as error:  # one form is no reason to lose the others
                failed[name] = str(error)
        if not built:
            raise TargetError(" ".join(f"{name}: {reason}" for name, reason in failed.items()))
        best = next(iter(built))
        forms: Forms = {**built[best].get("forms", {})}
        if failed:
            forms["failed"] = failed
        if len(built) > 1:
            engines = {name: folder / name for name in built}
            shape, p50 = times_of(engines, asked.shape, progress)
            best = min(p50, key=p50.__getitem__)
            forms |= {"shape": list(shape), "p50_ms": p50}
        forms["kept"] = best
        noise = None
        if asked.measure:
            statistics = shared.calibration.statistics
            noise = noise_of(source, folder / best, statistics, asked.calibration)
        keep(folder / best, output, {"forms": forms, "noise": noise}, force=force)
    return {**built[best], "forms": forms, "noise": noise}
