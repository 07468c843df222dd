"""`qdeploy calibrate`: statistics of a model directory, made once and kept beside the model."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.calibrate.model import load_model, model_digest
from qdeploy.calibrate.observe import Observer, observe_directory
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.calibrate.sensitivity import ROWS, add_sensitivity
from qdeploy.calibrate.statistics import FORMAT, Origin, Statistics
from qdeploy.calibrate.tokens import class_names
from qdeploy.data.batches import Encoded
from qdeploy.data.lengths import cut_text, row_limit
from qdeploy.data.reading import Reading, note_reading, reading_for_model
from qdeploy.data.row_texts import text_columns as text_columns  # for deploy, which knows no data
from qdeploy.data.row_texts import texts_of_row as texts_of_row  # the same
from qdeploy.data.rows import Rows, row_hashes, sample_rows
from qdeploy.data.tasks import find_task
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import DataError, ModelError, QDeployWarning, StatisticsError
from qdeploy.files.artifact import read_manifest
from qdeploy.files.kept import note
from qdeploy.graph.sites import find_structure
from qdeploy.head import SPANS
from qdeploy.onnx_file.check import GRAPH
from qdeploy.options import given_or
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import Array, PathLike, Progress

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

Feeds = Mapping[str, Array]
DEFAULT_DATA = "qnli-mini"
FOLDER = "statistics"
# Tokens of one batch, and pairs of tokens for attention, whose tensors are observed too. Constant,
# so that peak memory depends neither on rows nor on their lengths, up to one row of 512 tokens.
BATCH_TOKENS = 1024
BATCH_PAIRS = 256 * BATCH_TOKENS


def calibrate_model(
    model_dir: PathLike,
    options: CalibrationOptions | None = None,
    *,
    second_moments: bool = False,
    sensitivity: bool = False,
    progress: Progress | None = None,
    observer: Observer = observe_directory,
    **fields: object,
) -> Path:
    """Observe the model on calibration rows in one pass; see `qdeploy.api.calibrate`.

    Kept under a key of model, data, rows and their limit; the same request finds it again. What is
    kept there and does not match, or is damaged, is made anew.
    """
    asked = given_or(CalibrationOptions, options, fields)
    directory, rows = Path(model_dir), asked.calibration_rows
    manifest = read_manifest(directory, "model")
    longest = int(manifest["max_length"])
    report = progress or (lambda stage, done, total: None)
    report("read calibration rows", 0, 1)
    reading = _reading_of(directory, asked)
    max_length = reading.max_length
    limit = row_limit(longest, max_length)
    sample = calibration_rows(reading.source, reading.task, reading.columns, rows, asked.seed)
    if len(sample) < rows:
        warnings.warn(
            f"{sample.source} has {len(sample)} calibration rows, and {rows} were asked for.",
            QDeployWarning,
            stacklevel=2,
        )
    encoder = TextEncoder.from_directory(directory)
    encoded = _encode(encoder, sample, limit)
    origin = replace(
        _origin(directory, sample, asked.seed, encoded, class_names(encoder.special_tokens)),
        reading=reading.to_json(),
    )
    # of a question's context, what stands behind the cut is for its next window
    windows = manifest["task"] == SPANS
    text = None if windows else cut_text(origin.lengths, "calibration", longest, max_length)
    if text is not None:
        warnings.warn(text, QDeployWarning, stacklevel=2)
    path = directory / FOLDER / f"{_key(origin)}.npz"
    kept = _kept(directory, path, origin)
    report("read calibration rows", 1, 1)
    found, is_new = kept, False
    if found is None or (second_moments and not found.has_products):
        report("calibrate", 0, len(encoded))
        batches = _batches(encoder, encoded, progress)
        found, is_new = Statistics(origin, observer(directory, batches, second_moments)), True
        found.take_sensitivity(kept)
    elif origin.reading not in (None, found.origin.reading):  # the same rows under another name
        found, is_new = Statistics(replace(found.origin, reading=origin.reading), found.sites), True
    if sensitivity and not found.has_sensitivity:
        few = _encode(encoder, sample.sample(ROWS, asked.seed), limit)
        report("measure sensitivity", 0, 1)
        add_sensitivity(directory, found.sites, _batches(encoder, few, None))
        report("measure sensitivity", 1, 1)
        is_new = True
    if is_new:
        _save(found, path)
    note_reading(directory, reading)
    return path


def _reading_of(directory: Path, asked: CalibrationOptions) -> Reading:
    return reading_for_model(
        directory,
        data=asked.data,
        task=asked.task,
        columns=asked.columns,
        max_length=asked.max_length,
    )


def calibration_batches(
    model_dir: PathLike, origin: Origin, asked: CalibrationOptions, rows: int
) -> Iterator[Feeds]:
    """Batches of rows as those that calibrated, for who runs the model himself.

    Args:
        origin: of the statistics; its source is read again where no data are named.
        asked: data, task, columns, max_length and seed.
        rows: of the sample.
    """
    directory = Path(model_dir)
    if asked.data is None:
        sample = rows_again(origin, rows, asked.seed)
    else:
        reading = _reading_of(directory, asked)
        sample = sample_rows(
            asked.data, rows, asked.seed, task=reading.task, columns=reading.columns
        )
    encoder = TextEncoder.from_directory(directory)
    limit = row_limit(encoder.max_length, asked.max_length)
    yield from _batches(encoder, _encode(encoder, sample, limit), None)


def calibration_rows(
    data: str | None,
    task: str,
    columns: Columns | str | None,
    rows: int,
    seed: int,
) -> Rows:
    """A sample of what may calibrate; of the embedded rows, with a warning, where none are named.

    Args:
        data, task, columns: the source; see `qdeploy.data.sample_rows`, as for the rest.
        rows: how many, or all where there are fewer.

    Raises:
        DataError: they cannot be read, or the task has no embedded rows.
    """
    if data is not None:
        return sample_rows(data, rows, seed, task=task, columns=columns)
    if find_task(task).name != "qnli" or columns is not None:
        raise DataError(
            f"Task {task} with these columns has no embedded rows ({DEFAULT_DATA} is for qnli). "
            "Pass --data with a file, a directory or hub:NAME."
        )
    warnings.warn(
        f"No calibration data was named; {DEFAULT_DATA} (general English pairs) is used. Ranges "
        "fit your traffic better with --data and rows of your own task.",
        QDeployWarning,
        stacklevel=3,
    )
    return sample_rows(DEFAULT_DATA, rows, seed)


def rows_again(origin: Origin, rows: int, seed: int, without: Collection[str] = ()) -> Rows:
    """A sample of the source that statistics came from; of the embedded rows where they name none.

    Args:
        origin: of the statistics.
        rows, seed, without: of `qdeploy.data.sample_rows`.

    Raises:
        DataError: the source cannot be read again.
    """
    if origin.reading is None:
        return sample_rows(DEFAULT_DATA, rows, seed, without=without)
    return rows_of(origin.reading, rows, seed, without)


def rows_of(reading: ReadingFields, rows: int, seed: int, without: Collection[str] = ()) -> Rows:
    """A sample of rows that were named or noted.

    Args:
        reading: what `Reading.to_json` gave.
        rows, seed, without: of `qdeploy.data.sample_rows`.

    Raises:
        DataError: they cannot be read.
    """
    found = Reading.from_json(reading)
    return sample_rows(
        str(found.source), rows, seed, task=found.task, columns=found.columns, without=without
    )


def reading_of(model_dir: Path, asked: CalibrationOptions) -> ReadingFields | None:
    """What `eval` is to read of an engine that is not calibrated: what was named, or noted.

    Raises:
        DataError: what was named cannot be read.
    """
    lost = () if asked.data is not None else (DataError,)
    with contextlib.suppress(*lost):
        return _reading_of(model_dir, asked).to_json()
    return None


_SAME = ("model_sha256", "data_hash", "max_length", "row_hashes", "row_lengths", "token_classes")


def _kept(directory: Path, path: Path, origin: Origin) -> Statistics | None:
    """The statistics of this model and these rows that are kept there, whole; or None."""
    try:
        found = Statistics.load(path)
        if any(getattr(found.origin, name) != getattr(origin, name) for name in _SAME):
            return None
        found.require_sites(find_structure(load_model(directory)[0], directory / GRAPH))
    except StatisticsError:
        return None
    return found


def _save(statistics: Statistics, path: Path) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        statistics.save(path)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        blocked = path if path.is_dir() else path.parent
        raise ModelError(
            f"{blocked} is something else than the statistics that are kept there. Move it away."
        ) from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written: {error.strerror}. Statistics are kept in the model "
            "directory; make it writable, or free space."
        ) from error
    note("statistics", f"statistics were kept in {path.parent}")


def _origin(
    directory: Path, sample: Rows, seed: int, encoded: Encoded, token_classes: tuple[str, ...]
) -> Origin:
    lengths = encoded.row_lengths
    return Origin(
        model_sha256=model_digest(directory),
        data=sample.source,
        data_hash=sample.content_hash(),
        rows=len(sample),
        seed=seed,
        max_length=lengths.max_length,
        row_hashes=tuple(row_hashes(sample)),
        token_classes=token_classes,
        row_lengths=lengths.kept,
        truncated=lengths.truncated,
    )


def _key(origin: Origin) -> str:
    parts = (FORMAT, origin.model_sha256, origin.data_hash, origin.rows, origin.max_length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _encode(encoder: TextEncoder, rows: Rows, limit: int) -> Encoded:
    encoded = encoder.encode(rows, max_length=limit)
    if encoded.lengths.max() < 1:
        raise DataError(f"{rows.source} holds no text for the tokenizer.")
    return encoded


def _batches(encoder: TextEncoder, encoded: Encoded, progress: Progress | None) -> Iterator[Feeds]:
    done, rows = 0, len(encoded)
    for batch in encoder.batches(encoded, rows, max_tokens=BATCH_TOKENS, max_pairs=BATCH_PAIRS):
        yield batch.feeds
        done += len(batch.index)
        if progress is not None:
            progress("calibrate", done, rows)
