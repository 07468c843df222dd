"""The stages of an evaluation: each fills its sections of the report."""

from __future__ import annotations

from dataclasses import replace

from qdeploy.data.rows import Rows
from qdeploy.errors import ModelError, PlanError
from qdeploy.evaluate import report as parts
from qdeploy.evaluate.fill_answers import kept_tokens, longest
from qdeploy.evaluate.latency import (
    SEQ_LEN,
    LatencyProtocol,
    fixed_feeds,
    measure_alternating,
    summary,
)
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.memory import peak_memory
from qdeploy.evaluate.neighbours import neighbours_of
from qdeploy.evaluate.predict import RUN_TOKENS
from qdeploy.evaluate.room import check_room
from qdeploy.evaluate.size import engine_size
from qdeploy.evaluate.traffic import about_traffic, measure_traffic
from qdeploy.files.artifact import read_json
from qdeploy.head import CONFIG
from qdeploy.schemas.evaluation import Evaluation, Memory
from qdeploy.types import Array, Progress


def timed_tokens(subjects: list[LoadedEngine], seq_len: int | None) -> int:
    """Tokens of a row of the latency.

    Raises:
        PlanError: more were asked for than the engines take.
    """
    most = longest(subjects)
    if seq_len is None:
        return min(SEQ_LEN, most)
    if seq_len > most:
        raise PlanError(
            f"--seq-len is {seq_len}, and {subjects[0].taker} takes at most {most} tokens. Give "
            "less, or leave it out."
        )
    return seq_len


def check_memory(subjects: list[LoadedEngine], protocol: LatencyProtocol) -> None:
    """Refuse batches that the memory does not hold; an engine of a GPU refuses them itself.

    Raises:
        PlanError: with the most rows that would do.
    """
    for subject in subjects:
        if not subject.engine.on_device:
            path = subject.directory / CONFIG
            config = read_json(path) if path.is_file() else {}
            check_room(config, protocol.batch_size, protocol.seq_len)


def feeds_of(
    subject: LoadedEngine, rows: Rows, protocol: LatencyProtocol, seed: int, *, exact: bool
) -> dict[str, Array]:
    """Inputs of the fixed shape; where no latency is taken of them, the model's limit will do, and
    a batch of the size that accuracy runs."""
    if not exact:
        limit = min(protocol.seq_len, subject.encoder.max_length)
        most = min(protocol.batch_size, max(1, RUN_TOKENS // limit))
        protocol = replace(protocol, seq_len=limit, batch_size=most)
    return fixed_feeds(subject.encoder, rows.sample(protocol.batch_size, seed), protocol)


def fill_latency(
    report: Evaluation,
    subjects: list[LoadedEngine],
    feeds: list[dict[str, Array]],
    protocol: LatencyProtocol,
    seed: int,
    progress: Progress | None,
) -> None:
    """Fill `latency_ms`, `throughput`, `speedup` and `protocol`, and the baseline's latency.

    A third of the time is for this shape, where traffic takes the rest.
    """
    engines = [(s.engine, f) for s, f in zip(subjects, feeds, strict=True)]
    timed = measure_alternating(engines, protocol, progress, seconds=protocol.seconds / 3)
    latency, baseline = summary(timed.rounds[0]), report["baseline"]
    report["latency_ms"] = latency
    report["throughput"] = parts.about_throughput(latency, protocol)
    parts.add_runs(report["protocol"], timed)
    report["device_ms"] = parts.about_device(subjects[0], timed.iterations)
    report["cuda_graph"] = subjects[0].engine.graphs
    if baseline is not None:
        report["speedup"] = parts.about_speedup(timed.rounds[0], timed.rounds[1], seed)
        baseline["latency_ms"] = summary(timed.rounds[1])
        baseline["device_ms"] = parts.about_device(subjects[1], timed.iterations)
        baseline["cuda_graph"] = subjects[1].engine.graphs


def fill_traffic(
    report: Evaluation,
    subjects: list[LoadedEngine],
    rows: Rows,
    protocol: LatencyProtocol,
    max_length: int | None,
    seed: int,
    progress: Progress | None,
) -> None:
    """Fill `traffic`, and the baseline's, in what the fixed shape left of the time."""
    found = measure_traffic(
        subjects,
        rows,
        protocol,
        max_length=kept_tokens(subjects, max_length),
        seconds=max(0.0, protocol.seconds - (report["protocol"]["seconds"] or 0.0)),
        seed=seed,
        progress=progress,
    )
    sections = [about_traffic(one, seed) for one in found]
    report["traffic"] = [own for own, _ in sections]
    theirs = [speed for _, speed in sections if speed is not None]
    if report["baseline"] is not None and theirs:
        report["baseline"]["traffic"] = theirs


def fill_neighbours(
    report: Evaluation,
    subjects: list[LoadedEngine],
    rows: Rows,
    max_length: int | None,
    progress: Progress | None,
) -> None:
    """Fill `neighbours`, and the baseline's."""
    limit = kept_tokens(subjects, max_length)
    found = [
        neighbours_of(
            subject.engine,
            subject.encoder,
            rows,
            batch_size=report["protocol"]["batch_size"],
            max_length=limit,
            head=subject.head,
            progress=progress,
            stage=stage,
        )
        for subject, stage in zip(
            subjects, ("neighbours", "neighbours of the baseline"), strict=False
        )
    ]
    report["neighbours"] = found[0]
    if report["baseline"] is not None:
        report["baseline"]["neighbours"] = found[1]


def fill_memories(
    report: Evaluation,
    subjects: list[LoadedEngine],
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
    if report["baseline"] is not None:
        report["baseline"]["memory_mb"] = memory[1]


def _memory(report: Evaluation, subject: LoadedEngine, protocol: LatencyProtocol) -> Memory | None:
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


def fill_structure(
    report: Evaluation,
    subjects: list[LoadedEngine],
    feeds: list[dict[str, Array]],
    *,
    simulated: bool,
) -> None:
    """Fill `int8`, and the baseline's, and its size; a simulation has no kernels."""
    from qdeploy.deploy.certificate import check_int8

    checks = [
        None if simulated else check_int8(s.directory, s.engine, f, s.manifest)
        for s, f in zip(subjects, feeds, strict=True)
    ]
    report["int8"] = checks[0]
    if report["baseline"] is not None:
        report["baseline"]["size_mb"] = engine_size(subjects[1].directory)
        report["baseline"]["int8"] = checks[1]
