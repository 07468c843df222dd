"""`qdeploy build`: one engine, or the best of several where strategy, target or form is open."""

from __future__ import annotations

from typing import Any

from qdeploy.calibrate.strategies import STRATEGY_NAMES
from qdeploy.data.infer import AUTO, check_task
from qdeploy.deploy.build import build_engine
from qdeploy.errors import PlanError, choose
from qdeploy.evaluate.label_fit import label_fault
from qdeploy.types import PathLike


def build_one(
    model_dir: PathLike,
    engine_dir: PathLike,
    *,
    strategy: str = "peg",
    target: str = "ort-cpu",
    max_drop: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Build an engine directory; see `qdeploy.api.build`.

    Args:
        options: the others of `qdeploy.deploy.build.build_engine`.
    """
    choose("strategy", strategy, STRATEGY_NAMES, PlanError)
    check_task(options.get("task", AUTO))
    if max_drop is not None and strategy != "auto":
        raise PlanError("--max-drop of build is for --strategy auto; `qdeploy eval` has one too.")
    if strategy == "auto":
        from qdeploy.autotune.strategy import build_within

        built = build_within(model_dir, engine_dir, target=target, max_drop=max_drop, **options)
    elif target == "auto":
        from qdeploy.autotune.target import build_fastest

        built = build_fastest(model_dir, engine_dir, strategy=strategy, **options)
    else:
        from qdeploy.autotune.treatment import build_measured, measures

        make = build_measured if measures(target, strategy, options) else build_engine
        built = make(model_dir, engine_dir, strategy=strategy, target=target, **options)
    return built | {"label_fault": label_fault(engine_dir, built)}
