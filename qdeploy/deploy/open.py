"""An engine directory becomes an engine."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

from qdeploy.deploy.engine import Engine
from qdeploy.deploy.processors import holds_here
from qdeploy.deploy.targets.base import Target
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import ModelError, QDeployError, QDeployWarning, TargetError
from qdeploy.files.artifact import MANIFEST, read_manifest
from qdeploy.files.integrity import GRAPHS, SHA256, verify
from qdeploy.machine.threads import check_threads
from qdeploy.onnx_file.check import GRAPH, check_inside, check_names
from qdeploy.schemas.manifest import EngineFields


def open_engine(
    engine_dir: str | Path, *, threads: int | None = None, simulate: bool = False, how: str = SHA256
) -> Engine:
    """Load the engine of an engine directory with a stated number of threads.

    Args:
        threads: of one run; None takes the cores that the process may use.
        how: its files are held against the manifest: see `qdeploy.files.integrity.verify`.
        simulate: run its graph on the CPU, for its numbers alone (`qdeploy.deploy.ort.simulator`).

    Raises:
        ModelError: not an engine directory, or its files are not those of its manifest.
        TargetError: its target does not work on this machine.
        PlanError: `threads` is no number that helps.
    """
    threads = check_threads(threads)
    directory = Path(engine_dir)
    manifest = read_manifest(directory, "engine")
    verify(directory, manifest, GRAPHS, how=how)
    if os.path.lexists(directory / GRAPH):  # a target that compiles has no need of one
        check_inside(directory / GRAPH)
    if not simulate:
        _warn_of_processor(directory)
    engine = _open(directory, manifest, threads, simulate=simulate)
    check_names(directory, engine.input_names, engine.output_names, manifest)
    return engine


def _open(directory: Path, manifest: EngineFields, threads: int, *, simulate: bool) -> Engine:
    if simulate:
        from qdeploy.deploy.ort.simulator import SimulatedEngine

        return SimulatedEngine(directory / GRAPH, threads=threads)
    target = _target_of(directory, manifest)
    if target.compiles and manifest.get("dry_run"):
        raise ModelError(
            f"{directory} is of a dry run: nothing was compiled for {target.name}. Build it where "
            "that target works, or run the graph here with --simulate."
        )
    return target.open(directory, manifest, threads)


def _warn_of_processor(directory: Path) -> None:
    """Warn where INT8 products give other sums on this processor than on the one that built."""
    from qdeploy.deploy.certificate import read_certificate

    found = None
    with contextlib.suppress(QDeployError):  # engines run without it
        found = read_certificate(directory).get("processors")
    if found is not None and (text := holds_here(found)) is not None:
        warnings.warn(f"{directory}: {text}", QDeployWarning, stacklevel=4)


def _target_of(directory: Path, manifest: EngineFields) -> Target:
    """The target that a manifest names.

    Raises:
        TargetError: it is none of those that are known here.
    """
    found = TARGETS.get(manifest["target"])
    if found is None:
        raise TargetError(
            f"{directory / MANIFEST} names the target '{manifest['target']}', and known here are "
            f"{', '.join(TARGETS)}. Use a later version of qdeploy, or build the engine again."
        )
    return found


def device_memory_mb(engine_dir: str | Path) -> float | None:
    """Memory of the GPU in use by any process, 10⁶ bytes; None where the engine is of no GPU."""
    from qdeploy.deploy.cuda import used_memory_mb

    directory = Path(engine_dir)
    target = _target_of(directory, read_manifest(directory, "engine"))
    if not target.on_gpu:
        return None
    try:
        return used_memory_mb()
    except TargetError:  # no cuda.bindings; the engine may run all the same
        return None
