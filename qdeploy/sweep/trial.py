"""One trial: its engine, its accuracy, and its latency, each in a process of its own.

    python -m qdeploy.machine.tied qdeploy.sweep.trial STEP REQUEST.json

A crash of a kernel, or the machine's memory killer, then ends one trial and not the sweep; and who
asked takes the trial along, however it ends.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from qdeploy.autotune.build import build_one
from qdeploy.calibrate.strategies import needs_statistics
from qdeploy.data.rows import Rows, read_rows
from qdeploy.data.tasks import find_task
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.doctor_cpu import cpu_features
from qdeploy.deploy.options import BuildOptions
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate.accuracy import (
    compare,
    compare_outputs,
    metrics_of,
    outputs_of,
    predict_rows,
)
from qdeploy.evaluate.class_quality import judged_quality
from qdeploy.evaluate.embeddings import neighbour_quality
from qdeploy.evaluate.head_quality import head_quality
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.evaluate.predictions import (
    load_outputs,
    load_predictions,
    save_outputs,
    save_predictions,
)
from qdeploy.evaluate.run import evaluate_engine
from qdeploy.evaluate.size import engine_size
from qdeploy.evaluate.suspicions import swap_text
from qdeploy.files.artifact import write_json
from qdeploy.machine.faults import explained
from qdeploy.options import make
from qdeploy.schemas.quality import ACCURACY, QualityFigure, judging_figure, main_figure
from qdeploy.schemas.sweep import Answered, Loss, TrialMetrics
from qdeploy.sweep.stored import ACCURACY as ANSWERS
from qdeploy.sweep.stored import ENGINE, LATENCY, PREDICTIONS, is_whole


@dataclass(frozen=True)
class Request:
    """What one process of a trial is asked to do; all paths are of the machine that does it.

    Attributes:
        settings: options of `build`.
        folder: of the trial: engine, predictions and results go there.
        model, statistics: what every engine is built from.
        data: file of the evaluation rows.
        baseline: folder of the FP32 trial; None for that trial itself.
        task: of the evaluation.
        max_length: tokens kept of its rows; None is the model's own limit, at most 512.
        shapes, warmup, iterations, threads: of the latency.
    """

    settings: dict[str, object]
    folder: str
    model: str
    statistics: str
    data: str
    baseline: str | None
    task: str
    max_length: int | None
    shapes: tuple[tuple[int, int], ...]
    warmup: int
    iterations: int
    threads: int

    def save(self, path: Path) -> None:
        """As JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Request:
        """The inverse of `save`."""
        found = json.loads(path.read_text("utf-8"))
        found["shapes"] = tuple(map(tuple, found["shapes"]))
        return cls(**found)


def measure_accuracy(request: Request) -> None:
    """Build the engine where it is missing or damaged, run every row, compare with FP32.

    accuracy.json then has what `qdeploy.schemas.sweep.TrialAccuracy` says; whoever reads it holds
    it against that.
    """
    folder = Path(request.folder)
    engine = folder / ENGINE
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", QDeployWarning)
        if not is_whole(engine, "engine"):
            _remove(engine)
            calibrated = needs_statistics(str(request.settings["strategy"]))
            statistics = request.statistics if calibrated else None
            # every row is measured below, and whoever compares wants the bad ones too
            settings = {"statistics": statistics, "measure": False} | request.settings
            build_one(request.model, engine, make(BuildOptions, settings))
    subject = load_engine(engine, request.threads)
    rows = read_rows(request.data, task=request.task)
    measure = _classes if subject.head.chooses else _outputs
    write_json(
        folder / ANSWERS,
        {
            **measure(request, subject, rows),
            "size_mb": engine_size(engine),
            "int8": read_certificate(engine).get("int8"),
            "warnings": [str(w.message) for w in caught if issubclass(w.category, QDeployWarning)],
        },
    )


def _classes(request: Request, subject: LoadedEngine, rows: Rows) -> Answered:
    """Of heads that choose one class of a row: by accuracy, or as the task is judged."""
    task = find_task(request.task)
    judged = predict_rows(subject, rows, task, max_length=request.max_length)
    save_predictions(judged, Path(request.folder) / PREDICTIONS)
    theirs = None
    if request.baseline is not None:
        theirs = load_predictions(Path(request.baseline) / PREDICTIONS)
    own, judging = metrics_of(judged), judging_figure(judged_quality(judged, theirs, task))
    found: Answered = {
        "metrics": {
            "metric": ACCURACY,
            "value": own["accuracy"],
            "ci95": own["ci95"],
            "n": own["n"],
            "constant_predictor": own["constant_predictor"],
        },
        "class_order": swap_text(judged),
        "baseline": None,
    }
    if judging is not None:
        found["metrics"] = _measured(judging, own["n"], constant=own["constant_predictor"])
    if theirs is not None:
        base = compare(judged, theirs)
        lost: Loss = {
            "drop": base["drop"],
            "drop_ci95": None,
            "mcnemar_p": base["mcnemar_p"],
        }
        found["baseline"] = {
            **(lost if judging is None else _lost(judging)),
            "flipped": base["flipped"],
            "agreement": base["agreement"],
            "sqnr_db": base["sqnr_db"],
            "max_abs_diff": base["max_abs_diff"],
        }
    return found


def _outputs(request: Request, subject: LoadedEngine, rows: Rows) -> Answered:
    """Of all other heads, by their own metrics; of embeddings without scores, by the neighbours."""
    both = [outputs_of(subject, rows, max_length=request.max_length)]
    save_outputs(both[0], len(rows), Path(request.folder) / PREDICTIONS)
    if request.baseline is not None:
        both.append(load_outputs(Path(request.baseline) / PREDICTIONS, subject.head))
    places = find_task(request.task).columns
    if rows.labels is None:
        vectors = [one.values["sentence_embedding"] for one in both]
        quality = neighbour_quality(vectors[0], vectors[1] if len(both) > 1 else None)
    else:
        quality = head_quality([subject] * len(both), rows, both, places=places)
    main = main_figure(quality)
    found: Answered = {
        "metrics": _measured(main, quality["n"], constant=False),
        "class_order": None,
        "baseline": None,
    }
    if len(both) > 1:
        noise = compare_outputs(both[0], both[1])
        found["baseline"] = {
            **_lost(main),
            "flipped": None,
            "agreement": None,
            "sqnr_db": noise["sqnr_db"],
            "max_abs_diff": noise["max_abs_diff"],
        }
    return found


def _measured(figure: QualityFigure, rows: int, *, constant: bool) -> TrialMetrics:
    return {
        "metric": figure["name"],
        "value": figure["value"],
        "ci95": figure["ci95"],
        "n": rows,
        "constant_predictor": constant,
    }


def _lost(figure: QualityFigure) -> Loss:
    """Of another metric than accuracy, whose drop has an interval and no McNemar's p."""
    assert figure["drop"] is not None
    return {"drop": figure["drop"], "drop_ci95": figure["drop_ci95"], "mcnemar_p": None}


def _remove(path: Path) -> None:
    """A half engine; what stands in a trial's folder is the sweep's own."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def measure_latency(request: Request) -> None:
    """Time the engine in rounds that alternate with the baseline's, at every shape.

    latency.json then has what `qdeploy.schemas.sweep.TrialLatency` says.
    """
    folder = Path(request.folder)
    shapes: dict[str, object] = {}
    for rows, tokens in request.shapes:
        report = evaluate_engine(
            folder / ENGINE,
            data=request.data,
            task=request.task,
            baseline=None if request.baseline is None else Path(request.baseline) / ENGINE,
            batch_size=rows,
            seq_len=tokens,
            warmup=request.warmup,
            iterations=request.iterations,
            threads=request.threads,
            accuracy=False,
            traffic=False,
        )
        shapes[f"{rows}x{tokens}"] = {
            "latency_ms": report["latency_ms"],
            "speedup": report["speedup"],
            "memory_mb": report["memory_mb"],
            "protocol": report["protocol"],
            "throughput": report["throughput"],
        }
    found = {
        "shapes": shapes,
        "machine": f"{cpu_features()['model']}, {request.threads} threads",
        "date": datetime.date.today().isoformat(),
    }
    write_json(folder / LATENCY, found)


STEPS = {"accuracy": measure_accuracy, "latency": measure_latency}


def main() -> None:
    """Run one step of a trial, as the sweep asks on the command line."""
    step, path = sys.argv[1:]
    with explained():
        STEPS[step](Request.load(Path(path)))


if __name__ == "__main__":
    main()
