"""The parts of report.json (schema 1) that are put together rather than measured."""

from __future__ import annotations

import numpy as np

from qdeploy.data.lengths import RowLengths
from qdeploy.data.reading import Reading
from qdeploy.data.rows import Rows, row_hashes
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.latency import LatencyProtocol, ratio_of_medians, summary
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.rounds import Timed
from qdeploy.evaluate.size import engine_size
from qdeploy.evaluate.suspicions import of_predictions
from qdeploy.figures import factor, interval
from qdeploy.files.artifact import package_versions
from qdeploy.names import eight_bits
from qdeploy.schemas.evaluation import (
    Baseline,
    ClassOrderFound,
    ColumnsRead,
    Comparison,
    Data,
    Evaluation,
    Latency,
    OutputNoise,
    Protocol,
    Speedup,
    Throughput,
)
from qdeploy.schemas.quality import judging_figure
from qdeploy.types import Array

SCHEMA = 1
FP16 = "fp16"  # the strategy


def heading(
    subject: LoadedEngine, data: Data, protocol: LatencyProtocol, *, simulated: bool
) -> Evaluation:
    """What was measured and how; every section that takes a run starts as None.

    Keys are those of `docs/files.md`, so that a section that was left out reads null and a reader
    need not ask whether a key exists.
    """
    manifest = subject.manifest
    return {
        "schema": SCHEMA,
        "kind": "evaluation",
        "engine": str(subject.directory),
        "target": manifest["target"],
        "rest_precision": manifest.get("rest_precision", "f32"),
        "simulated": simulated,
        "auto": manifest.get("auto"),
        "strategy": manifest["strategy"],
        "scope": manifest["scope"],
        "task": data["task"],
        "metrics": None,
        "quality": None,
        "baseline": None,
        "latency_ms": None,
        "device_ms": None,
        "cuda_graph": None,
        "throughput": None,
        "speedup": None,
        "traffic": None,
        "int8_peak": None,
        "neighbours": None,
        "protocol": about_protocol(protocol),
        "memory_mb": None,
        "size_mb": engine_size(subject.directory),
        "int8": None,
        "data": data,
        "labels": None,
        "no_accuracy": None,
        "versions": package_versions(),
        "warnings": [],
    }


def about_protocol(protocol: LatencyProtocol) -> Protocol:
    """How latency is to be measured; `Timed.to_json` says what was run."""
    limited = protocol.iterations is None or protocol.warmup is None
    return {
        "batch_size": protocol.batch_size,
        "seq_len": protocol.seq_len,
        "threads": protocol.threads,
        "asked_warmup": protocol.warmup,
        "asked_iterations": protocol.iterations,
        "asked_seconds": protocol.seconds if limited else None,
        "warmup": None,
        "iterations": None,
        "seconds": None,
        "ended_by_time": None,
    }


def add_runs(protocol: Protocol, timed: Timed) -> None:
    """Put what was run beside what was asked for."""
    ran = timed.to_json()
    protocol["warmup"], protocol["iterations"] = ran["warmup"], ran["iterations"]
    protocol["seconds"], protocol["ended_by_time"] = ran["seconds"], ran["ended_by_time"]


def about_baseline(subject: LoadedEngine) -> Baseline:
    """Which engine the baseline is."""
    manifest = subject.manifest
    return {
        "engine": str(subject.directory),
        "target": manifest["target"],
        "strategy": manifest["strategy"],
        "scope": manifest["scope"],
    }


def add_noise(baseline: Baseline, found: OutputNoise | Comparison) -> None:
    """Put how far the outputs are from the baseline's into its section."""
    baseline["sqnr_db"] = found["sqnr_db"]
    baseline["equal_logits"] = found["equal_logits"]
    baseline["max_abs_diff"] = found["max_abs_diff"]


def add_comparison(baseline: Baseline, found: Comparison) -> None:
    """Put the comparison of two engines' answers into the baseline's section."""
    baseline["flipped"], baseline["agreement"] = found["flipped"], found["agreement"]
    add_noise(baseline, found)
    baseline["constant_predictor"] = found["constant_predictor"]
    if "accuracy" in found:  # and with it all that needs labels
        baseline["accuracy"], baseline["ci95"] = found["accuracy"], found["ci95"]
        baseline["drop"], baseline["mcnemar_p"] = found["drop"], found["mcnemar_p"]


def about_data(rows: Rows, subject: LoadedEngine, reading: Reading, left_out: int) -> Data:
    """The rows: where from, and how they were read, beside those that calibrated the engine.

    How long they are, the engine's own reading says (`RowLengths.to_json`); None until then.

    Args:
        left_out: rows of the source that calibrated the engine, and are none of these.
    """
    seen, calibration = subject.calibration_hashes, subject.calibration_lengths
    labelled, places = rows.labels is not None, reading.places
    columns: ColumnsRead = {
        "first": places.first,
        "second": places.second,
        # else no column is named for them
        "label": places.spelled_label[1] if labelled else None,
    }
    return {
        "source": rows.source,
        "n": len(rows),
        "hash": rows.content_hash(),
        "labelled": labelled,
        "max_length": None,
        "truncated": None,
        "truncated_share": None,
        "lengths": None,
        "calibration": None if calibration is None else calibration.to_json(),
        "also_calibration": sum(row in seen for row in row_hashes(rows)) if seen else 0,
        "task": reading.task,
        "columns": columns,
        "stands_in": reading.stands_in,
        "how": reading.how,
        "remembered": reading.remembered,
        "left_out": left_out,
    }


def add_lengths(data: Data, lengths: RowLengths) -> None:
    """Put how long the rows are, as the engine read them, and how many were cut."""
    data["max_length"], data["truncated"] = lengths.max_length, lengths.truncated
    found = lengths.to_json()
    data["truncated_share"], data["lengths"] = found["truncated_share"], found["lengths"]


def about_labels(judged: Judged) -> ClassOrderFound:
    """Class names by index, who says so, how the rows spell them, and the order that fits better
    where one does."""
    swapped = judged.swapped
    return {
        "order": list(judged.order.names),
        "from": judged.order.origin,
        "form": judged.form,
        "swapped": swapped is not None,
        "order_if_swapped": list(swapped.names) if swapped else None,
        "accuracy_if_swapped": swapped.accuracy if swapped else None,
    }


def about_throughput(latency: Latency, protocol: LatencyProtocol) -> Throughput:
    """Rows and tokens a second, by the mean time of a run."""
    rows_per_second = 1000 * protocol.batch_size / latency["mean"]
    return {"rows_per_s": rows_per_second, "tokens_per_s": rows_per_second * protocol.seq_len}


def about_speedup(own: list[Array], baseline: list[Array], seed: int) -> Speedup:
    """The ratio of medians with its interval.

    Args:
        own, baseline: rounds of each engine, ms.
        seed: of the bootstrap.
    """
    found, low, high = ratio_of_medians(baseline, own, seed)
    return {"ratio": found, "ci95": [low, high]}


def about_device(subject: LoadedEngine, iterations: int) -> Latency | None:
    """`device_ms` of a GPU's timed runs, between two events of the device; None elsewhere.

    Args:
        iterations: how many of its runs were timed, the last ones.
    """
    times = subject.engine.device_times[-iterations:]
    return summary([np.array(times)]) if times else None


def suspicions(report: Evaluation, judged: Judged | None) -> list[str]:
    """What in a report should make its reader stop, each as one warning."""
    texts = []
    data = report["data"]
    if data["also_calibration"] and (report["metrics"] or report["quality"]):
        figure = judging_figure(report["quality"])
        measured = "accuracy" if figure is None else figure["name"]
        texts.append(
            f"{data['also_calibration']} of {data['n']} evaluation rows ({data['source']}) also "
            f"calibrated the engine: its {measured} is too good. Evaluate on other rows."
        )
    if judged is not None:
        texts += of_predictions(report, judged)
    return texts + _against_half(report)


def _against_half(report: Evaluation) -> list[str]:
    """On a GPU, whether 8 bits gain anything over FP16, which takes no calibration."""
    target, int8, base = report["target"], report["int8"], report["baseline"]
    name = eight_bits(report["strategy"])
    if report["rest_precision"] != "f16" or not report["latency_ms"]:
        return []
    if not int8 or not int8["planned"]:
        return []
    speedup = report["speedup"]
    if base is None or speedup is None or (base["strategy"], base["target"]) != (FP16, target):
        return [
            f"On a GPU {name} has to beat FP16, and this report does not compare the two. "
            f"Run eval with --baseline {FP16}, which builds the FP16 engine."
        ]
    if speedup["ci95"][0] > 1:
        return []
    return [
        f"{name} is not faster than FP16 here: {factor(speedup['ratio'])} × "
        f"({interval(speedup['ci95'], factor)}). Ship the FP16 engine, {base['engine']}."
    ]
