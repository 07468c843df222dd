"""The parts of report.json (schema 1) that are put together rather than measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.artifact import package_versions
from qdeploy.data.rows import Rows, row_hashes
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.latency import LatencyProtocol, ratio_of_medians, summary
from qdeploy.evaluate.subject import Subject

Array = npt.NDArray[Any]

SCHEMA = 1
FP16 = "fp16"  # the strategy


def heading(subject: Subject, task: str, protocol: LatencyProtocol) -> dict[str, Any]:
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
        "protocol": asdict(protocol),
        "memory_mb": None,
        "size_mb": None,
        "int8": None,
        "data": None,
        "labels": None,
        "versions": package_versions(),
        "warnings": [],
    }


def about_baseline(subject: Subject) -> dict[str, Any]:
    """Which engine the baseline is."""
    names = ("target", "strategy", "scope")
    return {"engine": str(subject.directory)} | {name: subject.manifest[name] for name in names}


def about_data(rows: Rows, subject: Subject, judged: Judged | None) -> dict[str, Any]:
    """Source, n and hash of the rows, rows cut, and rows that calibrated the engine too."""
    seen = subject.calibration_hashes
    return {
        "source": rows.source,
        "n": len(rows),
        "hash": rows.content_hash(),
        "max_length": judged.max_length if judged else None,
        "truncated": judged.truncated if judged else None,
        "also_calibration": sum(row in seen for row in row_hashes(rows)) if seen else 0,
    }


def about_labels(judged: Judged) -> dict[str, Any]:
    """Class names by index, who says so, and the order that fits better where one does."""
    swapped = judged.swapped
    return {
        "order": list(judged.order.names),
        "from": judged.order.origin,
        "swapped": swapped is not None,
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


def about_device(subject: Subject, protocol: LatencyProtocol) -> dict[str, Any]:
    """`device_ms` of a GPU's timed runs, between two events of the device, and `cuda_graph`."""
    times = getattr(subject.engine, "device_times", [])[-protocol.iterations :]
    return {
        "device_ms": summary([np.array(times)]) if times else None,
        "cuda_graph": getattr(subject.engine, "graphs", None),
    }


def suspicions(report: dict[str, Any], judged: Judged | None) -> list[str]:
    """What in a report should make its reader stop, each as one warning."""
    texts = []
    data, labels = report["data"], report["labels"]
    if data["also_calibration"] and report["metrics"]:
        texts.append(
            f"{data['also_calibration']} of {data['n']} evaluation rows ({data['source']}) also "
            "calibrated the engine: its accuracy is too good. Evaluate on other rows."
        )
    if judged and labels["swapped"] and judged.swapped:
        texts.append(
            f"Accuracy {100 * report['metrics']['accuracy']:.1f} % lies below chance, and would be "
            f"{100 * labels['accuracy_if_swapped']:.1f} % with the classes in the order "
            f"{', '.join(judged.swapped.names)}: the model's labels look swapped. Correct id2label "
            "in the checkpoint's config.json and export again."
        )
    if report["metrics"] and report["metrics"]["constant_predictor"]:
        only = judged.order.names[int(np.argmax(judged.logits[0]))] if judged else ""
        texts.append(f"CONSTANT PREDICTOR: the engine answers '{only}' for every row.")
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
            "FP16 is what INT8 has to beat on a GPU, and this report does not hold against it: "
            f"build an engine with --strategy {FP16} --target {target}, and pass it as --baseline."
        ]
    ratio, (low, high) = report["speedup"]["ratio"], report["speedup"]["ci95"]
    if low > 1:
        return []
    return [
        f"INT8 is not faster than FP16 here: {ratio:.2f} x ({low:.2f} to {high:.2f}). Ship the "
        f"FP16 engine, {base['engine']}."
    ]
