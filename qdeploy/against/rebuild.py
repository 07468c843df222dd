"""The engine that the FP32 file would have given, from rows that are not compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qdeploy.against.options import AgainstOptions
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.reading import Reading
from qdeploy.data.rows import read_rows
from qdeploy.deploy.build import build_engine
from qdeploy.errors import DataError, PlanError
from qdeploy.files.artifact import kind_of, read_manifest
from qdeploy.files.output import check_output
from qdeploy.files.scratch import scratch
from qdeploy.schemas.comparison import RebuiltFacts
from qdeploy.types import Progress

TARGET = "ort-cpu"  # what both files run on
_ROWS = 128  # that calibrate, and half of the rows at most


def check_rebuild(against: Path, engine_dir: Path) -> None:
    """Refuse before any work what cannot be rebuilt.

    Raises:
        PlanError: `against` is an engine.
        OutputError: the engine directory is there already.
    """
    if kind_of(against) == "engine":
        raise PlanError(
            f"--rebuild builds from an FP32 file or a model directory, and --against is the engine "
            f"{against}. Name the model that it was built from with --against."
        )
    check_output(engine_dir, "engine", force=False)


def rebuild(
    against: Path,
    tokenizer: Path,
    reading: Reading,
    asked: AgainstOptions,
    progress: Progress | None,
    pooling: str | None = None,
) -> RebuiltFacts:
    """Build the engine of `asked.rebuild`; which rows calibrated it, its manifest says.

    Args:
        against: model directory, or an FP32 file, which is exported first.
        tokenizer: directory of the file's tokenizer.
        reading: of the rows that are compared.
        pooling: of a file that gives vectors of tokens alone.

    Raises:
        DataError: too few rows to have some for each.
        PlanError, OutputError: see `qdeploy.deploy.build.build_engine`.
    """
    source = reading.source or MINI
    rows = len(read_rows(source, task=reading.task, columns=reading.columns))
    if rows < 2:
        raise DataError(
            f"{source} has {rows} row, and --rebuild calibrates on other rows than those "
            "that are compared. Give more rows with --data."
        )
    assert asked.rebuild is not None
    engine_dir = Path(asked.rebuild)
    with _model_of(against, tokenizer, pooling, progress) as model:
        build_engine(
            model,
            engine_dir,
            strategy=asked.strategy,
            target=TARGET,
            data=source,
            task=reading.task,
            columns=reading.columns,
            max_length=asked.max_length,
            calibration_rows=min(_ROWS, rows // 2),
            seed=asked.seed,
            progress=progress,
        )
    manifest = read_manifest(engine_dir, "engine")
    found = manifest.get("calibration")
    return {
        "engine": str(engine_dir),
        "strategy": manifest["strategy"],
        "target": manifest["target"],
        "calibration_rows": 0 if found is None else found["rows"],
        "calibration": "" if found is None else found["data"],
        "source": manifest["source"],
    }


@contextlib.contextmanager
def _model_of(
    against: Path, tokenizer: Path, pooling: str | None, progress: Progress | None
) -> Iterator[Path]:
    """A model directory: the one that is named, or one exported from the file while this lasts."""
    if kind_of(against) == "model":
        yield against
        return
    from qdeploy.exporter.entry import export_model  # transformers, for files alone

    with scratch("model") as folder:
        target = folder / "model"
        export_model(against, target, tokenizer=tokenizer, pooling=pooling, progress=progress)
        yield folder / "model"
