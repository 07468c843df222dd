"""One evaluation from start to end: what `qdeploy eval` and `qdeploy.evaluate` do."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qdeploy.artifact import read_json, read_manifest
from qdeploy.data.infer import AUTO, check_task
from qdeploy.data.lengths import row_limit
from qdeploy.data.reading import Reading, reading_for_engine
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import Columns, find_task
from qdeploy.deploy.certificate import check_packages
from qdeploy.errors import ModelError, PlanError, QDeployWarning
from qdeploy.evaluate import report as parts
from qdeploy.evaluate.accuracy import (
    Compared,
    Judged,
    compare,
    compare_outputs,
    judge,
    metrics_of,
    no_accuracy,
    outputs_of,
)
from qdeploy.evaluate.evaluation_rows import evaluation_rows
from qdeploy.evaluate.gates import Gates
from qdeploy.evaluate.labels import label_remedy
from qdeploy.evaluate.latency import SEQ_LEN, LatencyProtocol, fixed_feeds, measure_alternating
from qdeploy.evaluate.memory import peak_memory
from qdeploy.evaluate.neighbours import neighbours_of
from qdeploy.evaluate.own_lengths import about_own_lengths, measure_own_lengths
from qdeploy.evaluate.predict import RUN_TOKENS
from qdeploy.evaluate.room import check_room
from qdeploy.evaluate.rounds import SECONDS, Progress
from qdeploy.evaluate.size import engine_size
from qdeploy.evaluate.subject import Subject, open_subject
from qdeploy.evaluate.suspicions import of_lengths
from qdeploy.head import CONFIG, head_of
from qdeploy.threads import check_threads

Array = npt.NDArray[Any]

_NAME_ROWS = "Name labelled rows with --data"


def evaluate_engine(
    engine_dir: str | Path,
    *,
    task: str = AUTO,
    data: str | Path | None = None,
    columns: Columns | str | None = None,
    baseline: str | Path | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    batch_size: int = 8,
    seq_len: int | None = None,
    warmup: int | None = None,
    iterations: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    latency: bool = True,
    own_lengths: bool = True,
    accuracy: bool = True,
    seed: int = 0,
    max_drop: float | None = None,
    require_int8: float | None = None,
    simulate: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an engine: accuracy, latency, memory, size and its INT8 kernels.

    Args:
        engine_dir: engine directory.
        task: a name of `qdeploy.data.TASKS`, or "auto": as when the engine was built, or as the
            columns of the data say.
        data: evaluation rows; None takes what the engine was built with, less the rows that
            calibrated it, or else `qnli-mini`.
        columns: the file's columns, or the text of `--columns`.
        baseline: engine directory to compare with, on the same rows and in alternating rounds.
        limit: the first rows only.
        max_length: tokens kept of a row for accuracy; None is what the engines take, at most 512.
        batch_size: rows per run, of accuracy and latency; fewer for accuracy where rows are long.
        seq_len: tokens per row of the latency; None is 128, or what the engines take.
        warmup, iterations: runs before, and runs in, the timing of each engine: exactly so many.
            None: at most 100 and 500, as `seconds` allow, but at least 1 and 6.
        seconds: for all timed runs of the engine and its baseline; None is 30.
        threads: of each engine; None takes the cores that the process may use.
        latency: measure latency and memory.
        own_lengths: time batches of the data's own lengths too.
        accuracy: measure accuracy; of rows without labels, and of engines that do not choose one
            class of a row, how far the outputs are from the baseline's.
        seed: of the latency's rows and of the bootstrap.
        max_drop: gate: accuracy points that may be lost against the baseline.
        require_int8: gate: least share of all constant-weight FLOPs in INT8, 0 … 1.
        simulate: run the engine's graph on the CPU, and that of a baseline that is a dry run;
            accuracy and size are all that is measured.
        progress: called as progress(stage, done, total).

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
    threads = check_threads(threads)
    if seconds is not None and iterations is not None:
        raise PlanError(
            "--seconds bounds runs whose number is left open, and --iterations names it. Leave one "
            "of the two out."
        )
    allowed = SECONDS if seconds is None else seconds
    asked = SEQ_LEN if seq_len is None else seq_len
    protocol = LatencyProtocol(batch_size, asked, warmup, iterations, threads, allowed)
    gates = Gates(max_drop, require_int8)
    gates.check_use(baseline=baseline is not None, accuracy=accuracy, simulate=simulate)
    if simulate and not accuracy:
        raise PlanError("A simulation measures accuracy alone. Leave --no-accuracy out.")
    latency = latency and not simulate
    check_task(task)
    manifest = read_manifest(Path(engine_dir), "engine")
    head = head_of(Path(engine_dir), manifest)
    reading = reading_for_engine(
        manifest,
        data=None if data is None else str(data),
        task=task,
        columns=columns,
        max_length=max_length,
        stands_in=not accuracy or baseline is not None or not head.chooses,
    )
    known, max_length = find_task(reading.task), reading.max_length
    if progress:
        progress("load", 0, 1)
    subjects = [open_subject(engine_dir, threads, simulate=simulate)]
    if baseline is not None:
        dry = read_manifest(Path(baseline), "engine").get("dry_run", False)
        subjects.append(open_subject(baseline, threads, simulate=simulate and dry))
    if not simulate:
        for subject in subjects:
            check_packages(subject.engine)
    rows, left_out = evaluation_rows(reading, subjects[0], limit, accuracy=accuracy)
    if latency:
        protocol = replace(protocol, seq_len=_timed_tokens(subjects, seq_len))
        _check_room(subjects, protocol)
    report = parts.heading(subjects[0], known.name, protocol) | {"simulated": simulate}
    if len(subjects) > 1:
        report["baseline"] = parts.about_baseline(subjects[1])
    judged = lengths = None
    if accuracy:
        found = _predictions(report, subjects, rows, reading, gates, progress)
        judged = found if isinstance(found, Judged) else None
        lengths = found.lengths if found else None
    report["data"] = parts.about_data(rows, subjects[0], lengths)
    labelled = rows.labels is not None
    report["data"] |= parts.about_reading(reading, left_out, labelled=labelled)
    feeds = [_feeds(s, rows, protocol, seed, exact=latency) for s in subjects]
    if accuracy:
        _neighbours(report, subjects, rows, max_length, progress)
    if latency:
        _latency(report, subjects, feeds, protocol, seed, progress)
        if own_lengths:
            _own_lengths(report, subjects, rows, protocol, max_length, seed, progress)
        _memories(report, subjects, protocol, progress)
    if progress:
        progress("kernels", 0, 1)
    _structure(report, subjects, feeds, simulated=simulate)
    if progress:
        progress("kernels", 1, 1)
    if simulate:
        report["warnings"].append(
            f"Simulated: the graph for {report['target']} ran on the CPU. Its accuracy is that of "
            "the graph; nothing was timed, and no kernel was seen."
        )
    report["warnings"] += parts.suspicions(report, judged)
    for text in report["warnings"]:
        warnings.warn(text, QDeployWarning, stacklevel=2)
    gates.check(report)
    return report


def _predictions(
    report: dict[str, Any],
    subjects: list[Subject],
    rows: Rows,
    reading: Reading,
    gates: Gates,
    progress: Progress | None,
) -> Judged | Compared | None:
    """Fill `metrics`, `labels` and `baseline` as far as labels and heads allow; the engine's own
    predictions, None where there is nothing to learn from any.

    Raises:
        PlanError: a gate, or a simulation, that needs an accuracy which cannot be measured.
    """
    task, max_length = find_task(reading.task), reading.max_length
    remedy = _NAME_ROWS if reading.stands_in else label_remedy(rows)
    reason = no_accuracy(subjects[0], rows, stands_in=reading.stands_in)
    if reason is not None:
        report["no_accuracy"] = reason
        gates.refuse_drop(reason)
        if len(subjects) == 1 and subjects[0].head.chooses:
            if report["simulated"]:
                raise PlanError(
                    f"A simulation measures accuracy alone, and {reason}. {remedy}, or pass "
                    "--baseline fp32."
                )
            report["warnings"].append(
                f"Accuracy was not measured: {reason}. {remedy}, or pass --baseline fp32: "
                "agreement with it needs no labels."
            )
            return None
    asked = {
        "max_length": _kept_tokens(subjects, max_length),
        "batch_size": report["protocol"]["batch_size"],
        "progress": progress,
    }
    stages = ("accuracy", "accuracy of the baseline")
    both = list(zip(subjects, stages, strict=False))
    if len(subjects) > 1 and not subjects[0].head.chooses:
        values = [outputs_of(subject, rows, stage=stage, **asked) for subject, stage in both]
        report["baseline"] |= compare_outputs(values[0], values[1])
        found: Judged | Compared = values[0]
    else:
        judged = [judge(subject, rows, task, stage=stage, **asked) for subject, stage in both]
        found = judged[0]
        report["labels"] = parts.about_labels(judged[0])
        report["metrics"] = None if reason else metrics_of(judged[0])
        if len(judged) > 1:
            report["baseline"] |= compare(judged[0], judged[1])
    if reason is not None:
        report["warnings"].append(
            f"Accuracy was not measured: {reason}. What follows compares the outputs with the "
            "baseline's, which needs no labels."
        )
    report["warnings"] += of_lengths(found.lengths, subjects[0], _longest(subjects), max_length)
    return found


def _longest(subjects: list[Subject]) -> int:
    """Tokens of a row that every engine takes."""
    return min(subject.longest for subject in subjects)


def _timed_tokens(subjects: list[Subject], seq_len: int | None) -> int:
    """Tokens of a row of the latency.

    Raises:
        PlanError: more were asked for than the engines take.
    """
    longest = _longest(subjects)
    if seq_len is None:
        return min(SEQ_LEN, longest)
    if seq_len > longest:
        raise PlanError(
            f"--seq-len is {seq_len}, and {subjects[0].taker} takes at most {longest} tokens. Give "
            "less, or leave it out."
        )
    return seq_len


def _kept_tokens(subjects: list[Subject], max_length: int | None) -> int:
    """Tokens kept of a row.

    Raises:
        PlanError: more were asked for than the engines take.
    """
    return row_limit(_longest(subjects), max_length, subjects[0].taker)


def _check_room(subjects: list[Subject], protocol: LatencyProtocol) -> None:
    """Refuse batches that the memory does not hold; an engine of a GPU refuses them itself.

    Raises:
        PlanError: with the most rows that would do.
    """
    for subject in subjects:
        if not hasattr(subject.engine, "bind"):
            path = subject.directory / CONFIG
            config = read_json(path) if path.is_file() else {}
            check_room(config, protocol.batch_size, protocol.seq_len)


def _feeds(
    subject: Subject, rows: Rows, protocol: LatencyProtocol, seed: int, *, exact: bool
) -> dict[str, Array]:
    """Inputs of the fixed shape; where no latency is taken of them, the model's limit will do, and
    a batch of the size that accuracy runs."""
    if not exact:
        limit = min(protocol.seq_len, subject.encoder.max_length)
        most = min(protocol.batch_size, max(1, RUN_TOKENS // limit))
        protocol = replace(protocol, seq_len=limit, batch_size=most)
    return fixed_feeds(subject.encoder, rows.sample(protocol.batch_size, seed), protocol)


def _latency(
    report: dict[str, Any],
    subjects: list[Subject],
    feeds: list[dict[str, Array]],
    protocol: LatencyProtocol,
    seed: int,
    progress: Progress | None,
) -> None:
    """Fill `latency_ms`, `throughput`, `speedup` and `protocol`, and the baseline's latency.

    Half of the time is for this shape, where the data's own lengths take the rest.
    """
    engines = [(s.engine, f) for s, f in zip(subjects, feeds, strict=True)]
    timed = measure_alternating(engines, protocol, progress, seconds=protocol.seconds / 2)
    sections, baseline = parts.about_speed(timed.rounds, protocol, seed)
    report |= sections
    report["protocol"] |= timed.to_json()
    report |= parts.about_device(subjects[0], timed.iterations)
    if baseline is not None:
        report["baseline"] |= {"latency_ms": baseline}
        report["baseline"] |= parts.about_device(subjects[1], timed.iterations)


def _own_lengths(
    report: dict[str, Any],
    subjects: list[Subject],
    rows: Rows,
    protocol: LatencyProtocol,
    max_length: int | None,
    seed: int,
    progress: Progress | None,
) -> None:
    """Fill `own_lengths`, and the baseline's, in what the fixed shape left of the time."""
    found = measure_own_lengths(
        subjects,
        rows,
        protocol,
        max_length=_kept_tokens(subjects, max_length),
        seconds=max(0.0, protocol.seconds - report["protocol"]["seconds"]),
        seed=seed,
        progress=progress,
    )
    for place, section in zip(
        (report, report["baseline"]), about_own_lengths(found, seed), strict=False
    ):
        place["own_lengths"] = section


def _neighbours(
    report: dict[str, Any],
    subjects: list[Subject],
    rows: Rows,
    max_length: int | None,
    progress: Progress | None,
) -> None:
    """Fill `neighbours`, and the baseline's."""
    limit = _kept_tokens(subjects, max_length)
    stages = ("neighbours", "neighbours of the baseline")
    places = (report, report["baseline"])
    for place, subject, stage in zip(places, subjects, stages, strict=False):
        place["neighbours"] = neighbours_of(
            subject.engine,
            subject.encoder,
            rows,
            batch_size=report["protocol"]["batch_size"],
            max_length=limit,
            head=subject.head,
            progress=progress,
            stage=stage,
        )


def _memories(
    report: dict[str, Any],
    subjects: list[Subject],
    protocol: LatencyProtocol,
    progress: Progress | None,
) -> None:
    """Fill `memory_mb`, and the baseline's."""
    memory = []
    if progress:
        progress("memory", 0, len(subjects))
    for done, subject in enumerate(subjects, 1):
        memory.append(_memory(report, subject, protocol))
        if progress:
            progress("memory", done, len(subjects))
    report["memory_mb"] = memory[0]
    if len(memory) > 1:
        report["baseline"] |= {"memory_mb": memory[1]}


def _memory(
    report: dict[str, Any], subject: Subject, protocol: LatencyProtocol
) -> dict[str, float] | None:
    """Peak of a fresh process; when that fails the rest of the report still stands, and says so."""
    try:
        return peak_memory(
            subject.directory,
            threads=protocol.threads,
            batch_size=protocol.batch_size,
            seq_len=protocol.seq_len,
        )
    except ModelError as error:
        report["warnings"].append(f"Peak memory was not measured. {error}")
        return None


def _structure(
    report: dict[str, Any],
    subjects: list[Subject],
    feeds: list[dict[str, Array]],
    *,
    simulated: bool,
) -> None:
    """Fill `size_mb` and `int8`, and the baseline's; a simulation has no kernels."""
    from qdeploy.deploy.certificate import check_int8

    sections: list[dict[str, Any]] = [
        {
            "size_mb": engine_size(s.directory),
            "int8": None if simulated else check_int8(s.directory, s.engine, f, s.manifest),
        }
        for s, f in zip(subjects, feeds, strict=True)
    ]
    report |= sections[0]
    if len(sections) > 1:
        report["baseline"] |= sections[1]
