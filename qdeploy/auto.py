"""`--target auto`: build for every target that works here, time them, keep the fastest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qdeploy.artifact import MANIFEST, read_json, staged, write_json
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.strategies import needs_statistics
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.doctor import CHECKS
from qdeploy.deploy.request import check_paths, parse_shape
from qdeploy.errors import PlanError, QDeployError, TargetError, VerificationError
from qdeploy.evaluate.latency import LatencyProtocol, measure_alternating, median
from qdeploy.evaluate.subject import Subject, open_subject

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]
NAME = "auto"
_ROWS = ("data", "task", "columns", "calibration_rows", "seed")  # of `calibrate`


def build_fastest(
    model_dir: str | Path,
    engine_dir: str | Path,
    *,
    strategy: str = "peg",
    opt_shape: str = "8x128",
    statistics: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Build for each target, time all engines in alternating rounds at `opt_shape`, keep one.

    Args:
        model_dir, engine_dir, strategy, opt_shape, statistics, force, dry_run, progress, options:
            of `qdeploy.api.build`, but for the target.

    Returns:
        What `build_engine` returns for the engine that was kept, and "auto": {"shape": [B, S],
        "threads", "p50_ms": {target: ms}, "skipped": {target: reason}}, which stands in the
        engine's manifest too.

    Raises:
        TargetError: no target works here, or none takes these options.
        PlanError, ModelError, DataError, OutputError: see `qdeploy.api.build`.
    """
    if dry_run:
        raise PlanError("--dry-run builds nothing that could be timed. Name a target with it.")
    source, output, wanted = Path(model_dir), Path(engine_dir), parse_shape(opt_shape)
    check_paths(source, output, options.get("data"), statistics, force=force)
    if needs_statistics(strategy) and statistics is None:
        statistics = calibrate_once(source, options, progress)
    with tempfile.TemporaryDirectory(prefix="qdeploy-auto-") as folder:
        built: dict[str, dict[str, Any]] = {}
        skipped: dict[str, str] = {}
        for done, target in enumerate(CHECKS):
            if progress is not None:
                progress(f"build for {target}", done, len(CHECKS))
            try:
                health = CHECKS[target]()
                if not health.works:
                    raise TargetError(health.detail)
                built[target] = build_engine(
                    source,
                    Path(folder) / target,
                    strategy=strategy,
                    target=target,
                    opt_shape=opt_shape,
                    statistics=statistics,
                    **options,
                )
            except (TargetError, VerificationError) as error:
                skipped[target] = str(error)
            except QDeployError:  # the model, the rows or an option: the same on every target
                raise
            except Exception as error:  # a runtime that breaks is no reason to lose the others
                skipped[target] = f"{type(error).__name__}: {error}"
        if not built:
            reasons = " ".join(f"{target}: {reason}" for target, reason in skipped.items())
            raise TargetError(f"No target takes this build. {reasons}")
        shape, p50 = times_of({name: Path(folder) / name for name in built}, wanted, progress)
        best = min(p50, key=p50.__getitem__)
        choice = {"shape": list(shape), "threads": 2, "p50_ms": p50, "skipped": skipped}
        keep(Path(folder) / best, output, {NAME: choice}, force=force)
    return built[best] | {NAME: choice}


def calibrate_once(source: Path, options: dict[str, Any], progress: Progress | None) -> Path:
    """Statistics for several builds, from the options of one, which lose what is used up."""
    rows = {name: options.pop(name) for name in _ROWS if name in options}
    if "calibration_rows" in rows:
        rows["rows"] = rows.pop("calibration_rows")
    options["seed"] = rows.get("seed", 0)
    return calibrate_model(source, progress=progress, **rows)


def keep(engine: Path, output: Path, fields: dict[str, Any], *, force: bool) -> None:
    """Write an engine directory that is one of several, with more fields in its manifest."""
    with staged(output, force=force) as work:
        shutil.copytree(engine, work, dirs_exist_ok=True)
        write_json(work / MANIFEST, read_json(work / MANIFEST) | fields)


def rounds_of(
    subjects: list[Subject],
    wanted: tuple[int, int],
    progress: Progress | None,
    iterations: int = 60,
) -> tuple[tuple[int, int], list[list[Array]]]:
    """The shape [B, S], and the alternating rounds of each engine (`measure_alternating`)."""
    longest = min(subject.encoder.max_length for subject in subjects)
    batch, tokens = wanted[0], min(wanted[1], longest)
    protocol = LatencyProtocol(batch_size=batch, seq_len=tokens, warmup=10, iterations=iterations)
    pairs = [
        (s.engine, probe_feeds(s.manifest["inputs"], batch=batch, sequence=tokens))
        for s in subjects
    ]
    return (batch, tokens), measure_alternating(pairs, protocol, progress)


def times_of(
    engines: dict[str, Path], wanted: tuple[int, int], progress: Progress | None
) -> tuple[tuple[int, int], dict[str, float]]:
    """The shape [B, S], and the median time of a run of each engine directory, ms, by its name."""
    subjects = [open_subject(engine, 2) for engine in engines.values()]
    shape, rounds = rounds_of(subjects, wanted, progress)
    times = {name: round(median(ms), 3) for name, ms in zip(engines, rounds, strict=True)}
    return shape, times
