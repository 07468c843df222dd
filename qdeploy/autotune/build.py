"""`qdeploy build`: one engine, or the best of several where strategy, target or form is open."""

from __future__ import annotations

from typing import Any

from qdeploy.autotune.treatment import build_measured, measures
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.options import BuildOptions
from qdeploy.evaluate.label_fit import label_fault
from qdeploy.options import given_or
from qdeploy.schemas.built import BuiltForRows
from qdeploy.types import PathLike, Progress


def build_one(
    model_dir: PathLike,
    engine_dir: PathLike,
    options: BuildOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> BuiltForRows:
    """Build an engine directory; see `qdeploy.api.build`.

    Args:
        fields: of the options, by name.
    """
    asked = given_or(BuildOptions, options, fields)
    make = build_measured if measures(asked) else build_engine
    if asked.strategy == "auto":
        from qdeploy.autotune.strategy import build_within as make
    elif asked.target == "auto":
        from qdeploy.autotune.target import build_fastest as make
    built = make(model_dir, engine_dir, asked, force=force, progress=progress)
    return {**built, "label_fault": label_fault(engine_dir, built)}
