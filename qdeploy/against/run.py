"""One comparison from start to end: what `qdeploy inspect FILE --against FP32` does.

Each file runs in a process of its own with bounds (`qdeploy.deploy.foreign_engine`), on the same
rows in the same batches.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qdeploy.against.answers import Asked, Said, answer, description, why_unmeasured
from qdeploy.against.home import Home, find_home, open_home
from qdeploy.against.options import AgainstOptions
from qdeploy.against.pair import Pair, find_pair, size_mb
from qdeploy.against.pooled import PooledEngine
from qdeploy.against.rebuild import check_rebuild, rebuild
from qdeploy.against.timing import Timed, time_all
from qdeploy.against.warn import warnings_of
from qdeploy.data.reading import reading_for_engine
from qdeploy.data.rows import Rows
from qdeploy.deploy.foreign import look, look_noise
from qdeploy.deploy.foreign_engine import ForeignEngine
from qdeploy.errors import QDeployWarning
from qdeploy.evaluate import report as parts
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.evaluation_rows import unseen_rows
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.predict import bounded_batches
from qdeploy.evaluate.row_tokens import encoded_of, tokens_kept
from qdeploy.files.artifact import package_versions, read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.machine.threads import check_threads
from qdeploy.onnx_file.check import GRAPH
from qdeploy.options import given_or
from qdeploy.schemas.comparison import FileAnswers, FileComparison, ProductsNoise, RebuiltFacts
from qdeploy.schemas.inspection import InspectedFile
from qdeploy.types import PathLike, Progress

SCHEMA = 1
FP32, FILE, REBUILT = "FP32", "file", "rebuilt"
NOISE_ROWS = 16  # that each product is rounded on by itself


def compare_files(
    path: PathLike,
    against: PathLike,
    options: AgainstOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: object,
) -> FileComparison:
    """What a quantized file loses against its FP32 file; see `qdeploy.api.inspect_against`.

    Args:
        path, against: .onnx files, or directories of qdeploy with one.
        fields: of the options, by name.
    """
    asked = given_or(AgainstOptions, options, fields)
    threads = check_threads(asked.threads)
    if asked.rebuild is not None:
        check_rebuild(Path(against), Path(asked.rebuild))
    if progress:
        progress("look", 0, 1)
    pair = find_pair(Path(path), Path(against))
    named = None if asked.tokenizer is None else Path(asked.tokenizer)
    # what stands beside the FP32 file is of it; a quantizer often leaves its file alone
    home = open_home(find_home(named, (pair.against, pair.file)), pair.exact)
    reading = reading_for_engine(
        home.manifest,
        data=None if asked.data is None else str(asked.data),
        task=asked.task,
        columns=asked.columns,
        max_length=asked.max_length,
        stands_in=False,
    )
    built: RebuiltFacts | None = None
    seen: frozenset[str] = frozenset()
    files = {FP32: pair.against, FILE: pair.file}
    if asked.rebuild is not None:
        folder = Path(asked.rebuild)
        pooling = None if home.pooled is None else home.pooled.asked
        built = rebuild(Path(against), home.directory, reading, asked, progress, pooling)
        calibration = read_manifest(folder, "engine").get("calibration")
        seen = frozenset(calibration.get("row_hashes", ()) if calibration else ())
        files[REBUILT] = folder / GRAPH
    rows, left_out = unseen_rows(reading, seen, asked.limit)
    with _opened(files, home, threads) as subjects:
        limit = tokens_kept(
            home.head, subjects[FP32].longest, reading.max_length, subjects[FP32].taker
        )
        how = Asked(rows, reading, limit, asked.batch_size, asked.seed, progress)
        said = _all_said(subjects, how)
        timed = time_all(list(subjects.values()), rows, asked, threads, progress) if built else None
    products = _products(pair, home, how, progress)
    report = _report(pair, subjects[FILE], home, said, how, left_out)
    report["subjects"] = [
        _subject(name, files[name], pair, said[name], timed, at) for at, name in enumerate(files)
    ]
    report["products"], report["rebuilt"] = products, built
    report["timing"] = None if timed is None else timed.protocol
    report["warnings"] = warnings_of(report)
    for text in report["warnings"]:
        warnings.warn(text, QDeployWarning, stacklevel=2)
    return report


@contextlib.contextmanager
def _opened(files: dict[str, Path], home: Home, threads: int) -> Iterator[dict[str, LoadedEngine]]:
    """Every file, in a process of its own while the block lasts."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, file in files.items():
            engine = (
                ForeignEngine(file, threads=threads)
                if home.pooled is None or name == REBUILT
                else PooledEngine(file, home.pooled, threads=threads)
            )
            stack.callback(engine.close)
            found[name] = LoadedEngine(file, home.manifest, engine, home.encoder, home.head)
        yield found


def _all_said(subjects: dict[str, LoadedEngine], how: Asked) -> dict[str, Said]:
    base = subjects[FP32]
    found = {FP32: answer(base, None, how)}
    for name, subject in subjects.items():
        if name != FP32:
            found[name] = answer(subject, (base, found[FP32]), how)
    return found


def _products(
    pair: Pair, home: Home, how: Asked, progress: Progress | None
) -> ProductsNoise | None:
    """What each INT8 product of the file costs, on the first of the rows."""
    if not pair.found["int8"]["planned"]:
        return None
    if progress:
        progress("products", 0, 1)
    sample: Rows = how.rows.take(NOISE_ROWS)
    encoded = encoded_of(
        home.encoder, home.head, sample, home.encoder.max_length, how.max_length, None
    )
    with scratch("products") as folder:
        feeds = {
            f"{at}/{name}": array
            for at, batch in enumerate(bounded_batches(home.encoder, encoded, NOISE_ROWS))
            for name, array in batch.feeds.items()
        }
        np.savez(folder / "feeds.npz", **feeds)  # type: ignore[arg-type]
        request = {
            "against": str(pair.against.absolute()),
            "feeds": str(folder / "feeds.npz"),
            "names": list(home.head.answers) if home.pooled is None else [home.pooled.output],
            "of_rows": home.head.of_rows and home.pooled is None,
            "exclusive": home.head.exclusive,
        }
        (folder / "request.json").write_text(json.dumps(request), "utf-8")
        found = look_noise(pair.file, folder / "request.json")
    if progress:
        progress("products", 1, 1)
    return found


def _subject(
    name: str, file: Path, pair: Pair, said: Said, timed: Timed | None, at: int
) -> FileAnswers:
    inspected: InspectedFile
    if name == FP32:
        inspected = pair.exact
    elif name == FILE:
        inspected = pair.found
    else:
        inspected = look(file, None)
    check = inspected["int8"]
    return {
        "name": name,
        "file": str(file),
        "size_mb": size_mb(file),
        "int8": check["summary"],
        "int8_share": check["flops_share"],
        "metrics": said.metrics,
        "quality": said.quality,
        "answers": said.answers,
        "latency_ms": None if timed is None else timed.latencies[at],
        "speedup": None if timed is None else timed.speedups[at],
    }


def _report(
    pair: Pair,
    subject: LoadedEngine,
    home: Home,
    said: dict[str, Said],
    how: Asked,
    left_out: int,
) -> FileComparison:
    """The report without what is measured of each file."""
    raw = said[FILE].raw
    data = parts.about_data(how.rows, subject, how.reading, left_out)
    parts.add_lengths(data, raw.lengths)
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "file": str(pair.file),
        "against": str(pair.against),
        "tokenizer": str(home.directory),
        "task": how.reading.task,
        "head": description(home.head),
        "subjects": [],
        "products": None,
        "found": pair.found,
        "data": data,
        "labels": parts.about_labels(raw) if isinstance(raw, Judged) else None,
        "no_accuracy": why_unmeasured(subject, how.rows),
        "rebuilt": None,
        "timing": None,
        "versions": package_versions(),
        "warnings": [],
    }
