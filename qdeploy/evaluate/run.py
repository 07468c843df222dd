"""One evaluation from start to end: what `qdeploy eval` and `qdeploy.evaluate` do."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from qdeploy.data.reading import Reading, reading_for_engine
from qdeploy.deploy.certificate import check_packages
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate import report as parts
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.answers import threshold_of
from qdeploy.evaluate.evaluation_rows import evaluation_rows
from qdeploy.evaluate.fill_answers import fill_answers
from qdeploy.evaluate.gates import Gates
from qdeploy.evaluate.label_sets import with_separator
from qdeploy.evaluate.latency import SEQ_LEN, LatencyProtocol
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.evaluate.options import EvalOptions
from qdeploy.evaluate.peak import peak_of
from qdeploy.evaluate.rounds import SECONDS
from qdeploy.evaluate.stages import (
    check_memory,
    feeds_of,
    fill_latency,
    fill_memories,
    fill_neighbours,
    fill_structure,
    fill_traffic,
    timed_tokens,
)
from qdeploy.files.artifact import read_manifest
from qdeploy.head import head_of
from qdeploy.machine.threads import check_threads
from qdeploy.options import given_or
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.types import PathLike, Progress


def evaluate_engine(
    engine_dir: PathLike,
    options: EvalOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: Any,
) -> Evaluation:
    """Measure an engine: accuracy, latency, memory, size and its INT8 kernels.

    Args:
        options: its `baseline` is an engine directory.
        fields: of the options, by name.

    Returns:
        report.json, schema 1. Shares (accuracy, drop, agreement, ci95) are 0 … 1, times ms, sizes
        MB of 10⁶ bytes; a section that was left out is None.

    Raises:
        PlanError: an option that cannot be followed, or accuracy of an engine that has none and no
            baseline.
        DataError: rows that cannot be read or do not fit the model.
        ModelError, TargetError: engines that do not load, or have different classes.
        VerificationError: logits that are not finite.
        GateError: a gate was not met; its attribute `report` is the whole report.
    """
    asked = given_or(EvalOptions, options, fields)
    threads = check_threads(asked.threads)
    protocol = _protocol(asked, threads)
    gates = Gates(asked.max_drop, asked.require_int8)
    # What the options alone decide is refused before anything is loaded.
    gates.check_use(
        baseline=asked.baseline is not None, accuracy=asked.accuracy, simulate=asked.simulate
    )
    reading = _reading(Path(engine_dir), asked)
    max_length = reading.max_length
    if progress:
        progress("load", 0, 1)
    subjects = _loaded(engine_dir, asked, threads)
    rows, left_out = evaluation_rows(reading, subjects[0], asked.limit, accuracy=asked.accuracy)
    if asked.timed:
        # Both engines have said how long a row may be; better refused now than behind the accuracy.
        protocol = replace(protocol, seq_len=timed_tokens(subjects, asked.seq_len))
        check_memory(subjects, protocol)
    data = parts.about_data(rows, subjects[0], reading, left_out)
    report = parts.heading(subjects[0], data, protocol, simulated=asked.simulate)
    if len(subjects) > 1:
        report["baseline"] = parts.about_baseline(subjects[1])
    found = None
    if asked.accuracy:
        found = fill_answers(report, subjects, rows, reading, gates, asked, progress)
    if subjects[0].encoder.one_text:
        rows = rows.singles()  # whose vectors are compared; an engine runs each text by itself
    # the same rows for both engines, each with the inputs that it takes
    feeds = [feeds_of(s, rows, protocol, asked.seed, exact=asked.timed) for s in subjects]
    if asked.accuracy:
        fill_neighbours(report, subjects, rows, max_length, progress)
    if asked.timed:
        fill_latency(report, subjects, feeds, protocol, asked.seed, progress)
        # Behind the fixed shape, which leaves it the rest of the seconds.
        if asked.traffic:
            fill_traffic(report, subjects, rows, protocol, max_length, asked.seed, progress)
        fill_memories(report, subjects, protocol, progress)
    if progress:
        progress("kernels", 0, 1)
    # Last: profiles open sessions of their own, and nothing is timed beside those.
    fill_structure(report, subjects, feeds, simulated=asked.simulate)
    report["int8_peak"] = peak_of(subjects[0], feeds[0], report)
    if progress:
        progress("kernels", 1, 1)
    if asked.simulate:
        report["warnings"].append(
            f"Simulated: the graph for {report['target']} ran on the CPU. Its accuracy is that of "
            "the graph; nothing was timed, and no kernel was seen."
        )
    report["warnings"] += parts.suspicions(report, found if isinstance(found, Judged) else None)
    # Gates come at the very end, so that the report of a failed one is whole.
    for text in report["warnings"]:
        warnings.warn(text, QDeployWarning, stacklevel=2)
    gates.check(report)
    return report


def _protocol(asked: EvalOptions, threads: int) -> LatencyProtocol:
    return LatencyProtocol(
        asked.batch_size,
        SEQ_LEN if asked.seq_len is None else asked.seq_len,
        asked.warmup,
        asked.iterations,
        threads,
        SECONDS if asked.seconds is None else asked.seconds,
    )


def _reading(engine_dir: Path, asked: EvalOptions) -> Reading:
    """The rows that are asked for, or that the engine remembers."""
    manifest = read_manifest(engine_dir, "engine")
    head = head_of(engine_dir, manifest)
    threshold_of(head, asked.threshold)  # before rows are read: the head may have none
    reading = reading_for_engine(
        manifest,
        data=None if asked.data is None else str(asked.data),
        task=asked.task,
        columns=asked.columns,
        max_length=asked.max_length,
        stands_in=not asked.accuracy or asked.baseline is not None or not head.chooses,
    )
    return with_separator(reading, head, asked.label_separator)


def _loaded(engine_dir: PathLike, asked: EvalOptions, threads: int) -> list[LoadedEngine]:
    """The engine, and its baseline; what proves their kernels is there."""
    subjects = [load_engine(engine_dir, threads, simulate=asked.simulate)]
    if asked.baseline is not None:
        # A baseline that runs here is measured as it is, also beside a simulation.
        dry = read_manifest(Path(asked.baseline), "engine").get("dry_run", False)
        subjects.append(load_engine(asked.baseline, threads, simulate=asked.simulate and dry))
    if not asked.simulate:
        for subject in subjects:
            # Else what is missing would show at the kernels, after minutes.
            check_packages(subject.engine)
    return subjects
