"""What builds of several engines share: one calibration, alternating rounds, one that is kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.sample import measuring_sample
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import needs_statistics
from qdeploy.deploy.certificate import probe_feeds, read_certificate
from qdeploy.deploy.directory import write_guides
from qdeploy.deploy.noise_report import measure_noise, warn_of_noise
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.options import BuildOptions
from qdeploy.evaluate.latency import LatencyProtocol, measure_alternating, median
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.files.artifact import add_to_manifest, read_manifest
from qdeploy.files.publish import staged
from qdeploy.graph.session import blaming
from qdeploy.machine.threads import usable_cores
from qdeploy.onnx_file.check import GRAPH
from qdeploy.schemas.manifest import ChosenFields, EngineManifest, Noise
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import Array, PathLike, Progress


def calibrate_once(source: Path, asked: BuildOptions, progress: Progress | None) -> BuildOptions:
    """The options with statistics that several builds share, calibrated here where none are named.

    What was read for them is not named again; a strategy without statistics stays as it is.
    """
    if asked.calibration.statistics is not None or not needs_statistics(asked.strategy):
        return asked
    path = calibrate_model(
        source,
        asked.calibration,
        second_moments=asked.compensates,
        sensitivity=asked.weighs_sites,
        progress=progress,
    )
    rows = CalibrationOptions(statistics=path, seed=asked.calibration.seed)
    return replace(asked, calibration=rows)


def noise_of(
    source: Path,
    engine: Path,
    statistics: PathLike | None,
    options: CalibrationOptions,
    reading: ReadingFields | None = None,
) -> Noise | None:
    """`measure_noise` of the engine that is kept, with a warning where it says one.

    Args:
        statistics: that it was built from, or None.
        options: of the build, of which `max_length` and `seed` are read.
        reading: rows of an engine that is not calibrated; None for those that its manifest names.
    """
    manifest = read_manifest(engine, "engine")
    observed = None
    if statistics is not None and needs_statistics(manifest["strategy"]):
        observed = Statistics.load(Path(statistics))
    rows = reading or manifest.get("data")
    sample = measuring_sample(
        source,
        observed=observed,
        reading=rows,
        max_length=options.max_length,
        seed=options.seed,
    )
    with blaming(source / GRAPH):
        found = measure_noise(source, engine, manifest, sample, open_engine(engine))
    warn_of_noise(found)
    return found


def keep(engine: Path, output: Path, fields: ChosenFields, *, force: bool) -> None:
    """Write an engine directory that is one of several, with more fields in its manifest."""
    with staged(output, "engine", force=force) as work:
        shutil.copytree(engine, work, dirs_exist_ok=True)
        manifest: EngineManifest = {**read_manifest(work, "engine"), **fields}
        guides = write_guides(work, manifest, read_certificate(work))
        add_to_manifest(work, "engine", fields, guides)


def rounds_of(
    subjects: list[LoadedEngine],
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
    return (batch, tokens), measure_alternating(pairs, protocol, progress).rounds


def times_of(
    engines: dict[str, Path], wanted: tuple[int, int], progress: Progress | None
) -> tuple[tuple[int, int], dict[str, float]]:
    """The shape [B, S], and the median time of a run of each engine directory, ms, by its name."""
    subjects = [load_engine(engine, usable_cores()) for engine in engines.values()]
    shape, rounds = rounds_of(subjects, wanted, progress)
    times = {name: round(median(ms), 3) for name, ms in zip(engines, rounds, strict=True)}
    return shape, times
