"""The parts of report.json (schema 1) that are put together rather than measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdeploy.data.lengths import RowLengths
from qdeploy.data.reading import Reading
from qdeploy.data.rows import Rows, row_hashes
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.latency import LatencyProtocol, ratio_of_medians, summary
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.suspicions import of_predictions
from qdeploy.files.artifact import package_versions
from qdeploy.types import Array

SCHEMA = 1
FP16 = "fp16"  # the strategy


def heading(subject: LoadedEngine, task: str, protocol: LatencyProtocol) -> dict[str, Any]:
    """What was measured and how; every measured section starts as None.

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
        "simulated": False,
        "auto": manifest.get("auto"),
        "strategy": manifest["strategy"],
        "scope": manifest["scope"],
        "task": task,
        "metrics": None,
        "baseline": None,
        "latency_ms": None,
        "device_ms": None,
        "cuda_graph": None,
        "throughput": None,
        "speedup": None,
        "own_lengths": None,
        "neighbours": None,
        "protocol": about_protocol(protocol),
        "memory_mb": None,
        "size_mb": None,
        "int8": None,
        "data": None,
        "labels": None,
        "no_accuracy": None,
        "versions": package_versions(),
        "warnings": [],
    }


def about_protocol(protocol: LatencyProtocol) -> dict[str, Any]:
    """How latency is to be measured; `Timed.to_json` says what was run."""
    limited = protocol.iterations is None or protocol.warmup is None
    return {
        "batch_size": protocol.batch_size,
        "seq_len": protocol.seq_len,
        "threads": protocol.threads,
        "asked_warmup": protocol.warmup,
        "asked_iterations": protocol.iterations,
        "asked_seconds": protocol.seconds if limited else None,
        **dict.fromkeys(("warmup", "iterations", "seconds", "ended_by_time")),
    }


def about_baseline(subject: LoadedEngine) -> dict[str, Any]:
    """Which engine the baseline is."""
    manifest = subject.manifest
    return {
        "engine": str(subject.directory),
        "target": manifest["target"],
        "strategy": manifest["strategy"],
        "scope": manifest["scope"],
    }


def about_data(rows: Rows, subject: LoadedEngine, lengths: RowLengths | None) -> dict[str, Any]:
    """The rows: where from, how long and how many cut, beside those that calibrated the engine.

    Args:
        lengths: of the rows as the engine read them; None where it read none.
    """
    seen, calibration = subject.calibration_hashes, subject.calibration_lengths
    unread = dict.fromkeys(("max_length", "truncated", "truncated_share", "lengths"))
    return {
        "source": rows.source,
        "n": len(rows),
        "hash": rows.content_hash(),
        "labelled": rows.labels is not None,
        **(unread if lengths is None else lengths.to_json()),
        "calibration": None if calibration is None else calibration.to_json(),
        "also_calibration": sum(row in seen for row in row_hashes(rows)) if seen else 0,
    }


def about_reading(reading: Reading, left_out: int, *, labelled: bool) -> dict[str, Any]:
    """How the rows were read, and how many of them calibrated the engine and were left out.

    Args:
        reading: what was read.
        left_out: rows.
        labelled: the rows have labels; else no column is named for them.
    """
    columns = reading.places.to_json()
    return {
        "task": reading.task,
        "columns": columns if labelled else columns | {"label": None},
        "stands_in": reading.stands_in,
        "how": reading.how,
        "remembered": reading.remembered,
        "left_out": left_out,
    }


def about_labels(judged: Judged) -> dict[str, Any]:
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


def about_speed(
    times: list[list[Array]], protocol: LatencyProtocol, seed: int
) -> tuple[dict[str, Any], dict[str, float] | None]:
    """Sections of the engine's times and, with two engines, the latency of the baseline.

    Args:
        times: rounds of the engine and, where there is one, of the baseline, ms.
        protocol: for the rows of a run.
        seed: of the bootstrap.

    Returns:
        `latency_ms`, `throughput` and `speedup`; then the baseline's `latency_ms`.
    """
    latency = summary(times[0])
    rows_per_second = 1000 * protocol.batch_size / latency["mean"]
    sections: dict[str, Any] = {
        "latency_ms": latency,
        "throughput": {
            "rows_per_s": rows_per_second,
            "tokens_per_s": rows_per_second * protocol.seq_len,
        },
    }
    if len(times) == 1:
        return sections, None
    ratio, low, high = ratio_of_medians(times[1], times[0], seed)
    return sections | {"speedup": {"ratio": ratio, "ci95": [low, high]}}, summary(times[1])


def about_device(subject: LoadedEngine, iterations: int) -> dict[str, Any]:
    """`device_ms` of a GPU's timed runs, between two events of the device, and `cuda_graph`.

    Args:
        iterations: how many of its runs were timed, the last ones.
    """
    times = subject.engine.device_times[-iterations:]
    return {
        "device_ms": summary([np.array(times)]) if times else None,
        "cuda_graph": subject.engine.graphs,
    }


def suspicions(report: dict[str, Any], judged: Judged | None) -> list[str]:
    """What in a report should make its reader stop, each as one warning."""
    texts = []
    data = report["data"]
    if data["also_calibration"] and report["metrics"]:
        texts.append(
            f"{data['also_calibration']} of {data['n']} evaluation rows ({data['source']}) also "
            "calibrated the engine: its accuracy is too good. Evaluate on other rows."
        )
    if judged is not None:
        texts += of_predictions(report, judged)
    return texts + _against_half(report)


def _against_half(report: dict[str, Any]) -> list[str]:
    """On a GPU, whether INT8 gains anything over FP16, which takes no calibration."""
    target, int8, base = report["target"], report["int8"], report["baseline"]
    if report["rest_precision"] != "f16" or not report["latency_ms"]:
        return []
    if not int8 or not int8["planned"]:
        return []
    if base is None or (base["strategy"], base["target"]) != (FP16, target):
        return [
            "On a GPU INT8 has to beat FP16, and this report does not compare the two. Run eval "
            f"with --baseline {FP16}, which builds the FP16 engine."
        ]
    ratio, (low, high) = report["speedup"]["ratio"], report["speedup"]["ci95"]
    if low > 1:
        return []
    return [
        f"INT8 is not faster than FP16 here: {ratio:.2f} x ({low:.2f} to {high:.2f}). Ship the "
        f"FP16 engine, {base['engine']}."
    ]
