"""`peg` on a target that compiles: which form its treatment takes, by the time that each needs.

What `qdeploy.deploy.lowering.cost_model` estimates is the first candidate; factors wherever they
suffice and groups alone are the others. Plans that come out the same are built once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdeploy.autotune.timing import calibrate_once, keep, noise_of, times_of
from qdeploy.calibrate.options import AUTO, EVERYWHERE, GEMM_SCOPE, NONE
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.request import check_paths, check_shape, parse_shape
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import ModelError, TargetError
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.types import Progress

_DECIDED = ("strategy", "prescale", "dry_run")
# By name, as it stands in the manifest: the option `prescale` of the build.
_FORMS: dict[str, str | None] = {"estimated": None, "factors": EVERYWHERE, "groups": NONE}


def measures(target: str, strategy: str, options: Mapping[str, Any]) -> bool:
    """Whether a build leaves its forms open, on a target where they are measured.

    Args:
        target: a name, known or not.
        strategy: of the build; only `peg` has forms.
        options: of `qdeploy.api.build`, or some of them.
    """
    found = TARGETS.get(target)
    if strategy != "peg" or found is None or found.costs is None or options.get("dry_run"):
        return False
    chosen = options.get("prescale") is not None or options.get("groups", AUTO) != AUTO
    return not chosen and options.get("scope", GEMM_SCOPE) == GEMM_SCOPE


def build_measured(
    model_dir: str | Path,
    engine_dir: str | Path,
    *,
    target: str,
    opt_shape: str = "8x128",
    statistics: str | Path | None = None,
    force: bool = False,
    measure: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Build `peg` in each form, time the engines in alternating rounds at `opt_shape`, keep one.

    Args:
        model_dir, engine_dir, target, opt_shape, statistics, force, progress, options: of
            `qdeploy.api.build`.
        measure: hold the engine that is kept against FP32 on a few rows.

    Returns:
        What `build_engine` returns for the engine that was kept, whose "forms" has "shape",
        "p50_ms" {form: ms} and "kept" beside the estimate, in the engine's manifest too.

    Raises:
        TargetError: the target does not work here.
        PlanError, ModelError, DataError, OutputError: see `qdeploy.api.build`.
    """
    options = {name: value for name, value in options.items() if name not in _DECIDED}
    source, output = Path(model_dir), Path(engine_dir)
    TARGETS[target].require()
    check_shape(parse_shape(opt_shape), int(read_manifest(source, "model")["max_length"]))
    check_paths(source, output, options.get("data"), statistics, force=force)
    asked = dict(options)
    if statistics is None:
        statistics = calibrate_once(source, options, progress)
    shared: dict[str, Any] = {"strategy": "peg", "target": target, "opt_shape": opt_shape}
    shared |= options | {"measure": False}
    with scratch("forms") as folder:
        home = folder
        if "timing_cache" in TARGETS[target].takes and shared.get("timing_cache") is None:
            shared["timing_cache"] = home / "timing.cache"  # forms share most kernels
        plans: dict[str, Any] = {}
        for name, prescale in _FORMS.items():
            dry = home / f"dry-{name}"
            if progress is not None:
                progress(f"plan of {name}", 0, 1)
            build_engine(
                source, dry, statistics=statistics, prescale=prescale, dry_run=True, **shared
            )
            treatments = [site["treatment"] for site in read_json(dry / "plan.json")["sites"]]
            if treatments not in plans.values():
                plans[name] = treatments
        built: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        for name in plans:
            given = shared | {"prescale": _FORMS[name], "progress": progress}
            try:
                built[name] = build_engine(source, home / name, statistics=statistics, **given)
            except (TargetError, ModelError) as error:  # one form is no reason to lose the others
                failed[name] = str(error)
        if not built:
            raise TargetError(" ".join(f"{name}: {reason}" for name, reason in failed.items()))
        best = next(iter(built))
        forms = built[best].get("forms", {}) | ({"failed": failed} if failed else {})
        if len(built) > 1:
            engines = {name: home / name for name in built}
            shape, p50 = times_of(engines, parse_shape(opt_shape), progress)
            best = min(p50, key=p50.__getitem__)
            forms |= {"shape": list(shape), "p50_ms": p50}
        forms |= {"kept": best}
        noise = noise_of(source, home / best, statistics, asked) if measure else None
        keep(home / best, output, {"forms": forms, "noise": noise}, force=force)
    return built[best] | {"forms": forms, "noise": noise}
