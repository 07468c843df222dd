"""`--baseline fp32`: the engine to compare with, built beside the engine where it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import ModelError, nearest
from qdeploy.evaluate.options import EvalOptions
from qdeploy.files.artifact import MANIFEST, kind_of, read_manifest
from qdeploy.files.kept import note
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.schemas.source import Source
from qdeploy.text import beside
from qdeploy.types import PathLike, Progress

WORDS = ("fp32", "fp16")  # strategies


class Profile(TypedDict, total=False):
    """Options of a build."""

    min_shape: str
    max_shape: str
    compute_capability: list[str]


def with_baseline(
    engine_dir: PathLike, asked: EvalOptions, *, progress: Progress | None = None
) -> EvalOptions:
    """Options of an evaluation whose baseline is a directory, built where there is none yet.

    Raises:
        ModelError, TargetError, PlanError, OutputError: see `find_baseline`.
    """
    assert asked.baseline is not None
    found = find_baseline(engine_dir, asked.baseline, model=asked.model, progress=progress)
    return replace(asked, baseline=found)


def find_baseline(
    engine_dir: str | Path,
    asked: str | Path,
    *,
    model: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The baseline's directory.

    Args:
        engine_dir: engine directory.
        asked: an engine directory, or one of `WORDS`: an engine of that strategy, of the same model
            and target, in `ENGINE_DIR-fp32`. A directory that is called so comes first.
        model: model directory to build it from; None looks for the one that the engine was built
            from beside the engine and in the current directory.
        progress: called as progress(stage, done, total).

    Raises:
        ModelError: the model is not found, or is another; something else stands in its place; there
            is no such directory.
        TargetError, PlanError, OutputError: see `qdeploy.api.build`.
    """
    if str(asked) not in WORDS or Path(asked).exists():
        _require_there(asked)
        return Path(asked)
    manifest = read_manifest(Path(engine_dir), "engine")
    place = beside(engine_dir, str(asked))
    if os.path.lexists(place):
        _require(place, str(asked), manifest)
        return place
    from qdeploy.deploy.build import build_engine  # here and below: most baselines are there

    source = model_of(engine_dir, manifest, model)
    build_engine(
        source,
        place,
        strategy=str(asked),
        target=manifest["target"],
        opt_shape=_shape(_within(manifest)),
        measure=False,
        progress=None
        if progress is None
        else lambda stage, done, total: progress(f"baseline: {stage}", done, total),
        **_profile(manifest, str(asked)),
    )
    note("baseline", f"{place} was written")
    return place


def _require_there(asked: str | Path) -> None:
    """Refuse a word that is mistyped, before anything is loaded.

    Raises:
        ModelError: no such directory.
    """
    if os.path.lexists(asked):
        return
    raise ModelError(
        f"--baseline is '{asked}', and no such directory is here.{nearest(str(asked), WORDS)} Name "
        f"an engine directory, or {' or '.join(WORDS)}, which is built from the engine's model."
    )


def model_of(
    engine_dir: str | Path, manifest: EngineManifest, model: str | Path | None = None
) -> Path:
    """The model directory that an engine was built from.

    Raises:
        ModelError: it is not found, or is another model by now.
    """
    from qdeploy.calibrate.model import model_digest

    source = manifest["source"]
    others = []
    for place in [Path(model)] if model is not None else _places(engine_dir, source):
        if model is not None:
            read_manifest(place, "model")
        elif not (place / MANIFEST).is_file():
            continue
        if model_digest(place) == source["sha256"]:
            return place
        others.append(str(place))
    found = f" {', '.join(others)} holds another model." if others else ""
    raise ModelError(
        f"The model that {engine_dir} was built from ({source.get('path') or source.get('id')}) "
        f"is not beside it, nor in the current directory.{found} Name it with --model MODEL_DIR, "
        "or an engine to compare with: --baseline ENGINE_DIR."
    )


def _places(engine_dir: str | Path, source: Source) -> Iterator[Path]:
    """Where the model directory may be, without repetition; an engine keeps its name alone."""
    name = source.get("path")
    if not name:
        return
    home = Path(os.path.abspath(engine_dir)).parent
    seen = set()
    for folder in (home, Path.cwd(), home.parent, home.parent / "models", home / "models"):
        place = Path(os.path.relpath(folder / name))
        if place not in seen:
            seen.add(place)
            yield place


def _require(place: Path, strategy: str, manifest: EngineManifest) -> None:
    """Refuse what is no such baseline of this engine.

    Raises:
        ModelError: with the way out.
    """
    if lying := _strange(place):
        raise ModelError(
            f"{place} is {lying}, and stands where the {strategy} baseline is built. Move it away, "
            "or name an engine with --baseline ENGINE_DIR."
        )
    found = read_manifest(place, "engine")
    for what, own, other in (
        ("strategy", strategy, found["strategy"]),
        ("target", manifest["target"], found["target"]),
        ("model", manifest["source"]["sha256"], found["source"]["sha256"]),
    ):
        if own != other:
            raise ModelError(
                f"{place} stands where the {strategy} baseline belongs, and its {what} is another. "
                "Move it away, or name an engine with --baseline ENGINE_DIR."
            )


def _strange(place: Path) -> str:
    """What lies in the baseline's place, if it is no directory of qdeploy's; empty where it is."""
    if not place.exists():
        return "a link that leads nowhere"
    if not place.is_dir():
        return "a file"
    if (place / MANIFEST).exists():
        kind = kind_of(place)
        return "" if kind == "engine" else f"a {kind} directory"
    if not os.access(place, os.R_OK | os.X_OK):
        return ""  # reading it says so
    empty = not any(place.iterdir())
    return f"{'an empty' if empty else 'a'} directory{'' if empty else f' without {MANIFEST}'}"


def _shape(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _within(manifest: EngineManifest) -> tuple[int, int]:
    """The shape that an engine is tuned for; earlier versions took more tokens than the model."""
    rows, tokens = manifest["opt_shape"]
    return rows, min(tokens, manifest["max_length"])


def _profile(manifest: EngineManifest, strategy: str) -> Profile:
    """Shapes and devices of a compiled engine, for a baseline that is of the same."""
    builder = manifest.get("builder")
    shapes = builder.get("shapes") if builder else None
    if not builder or not shapes:
        return {}
    found: Profile = {}
    if devices := builder.get("compute_capabilities"):
        # where none has the strategy's products, the build says so
        able = find_target(manifest["target"]).devices_of(strategy, devices)
        found["compute_capability"] = list(able) or devices
    if (least := shapes.get("min")) is not None:
        found["min_shape"] = _shape(least)
    if (most := shapes.get("max")) is not None:
        found["max_shape"] = _shape(most)
    return found
