"""A few rows to measure a finished engine on: those that calibrated it, where they are at hand."""

from __future__ import annotations

import contextlib
from pathlib import Path

from qdeploy.calibrate.batches import MASK, Sample
from qdeploy.calibrate.run import DEFAULT_DATA, rows_again, rows_of
from qdeploy.calibrate.statistics import Statistics
from qdeploy.data.lengths import row_limit
from qdeploy.data.notice import say
from qdeploy.data.rows import Rows, sample_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import DataError
from qdeploy.schemas.reading import ReadingFields

# 32 rows tell a collapse from harmless noise (each is a draw of it: their SQNR is known to about
# 1 dB), and are a quarter of what a calibration reads.
ROWS = 32
# Long rows take the time of several: so many tokens are enough, and no fewer than four rows.
_TOKENS, _FEWEST = 4096, 4
_BATCH = 8


def measuring_sample(
    model_dir: Path,
    *,
    observed: Statistics | None,
    reading: ReadingFields | None = None,
    max_length: int | None = None,
    seed: int = 0,
) -> Sample:
    """The first rows that calibrated, `ROWS` of them or what there is; fewer where they are long.

    Args:
        model_dir: model directory; its tokenizer reads the rows.
        observed: statistics of the calibration. Where its rows cannot be read again (statistics
            from elsewhere), the rows are of the embedded set.
        reading: without statistics, the rows that were named or noted
            (`qdeploy.data.reading.Reading.to_json`); None for those of the embedded set.
        max_length: tokens kept of a row; None is that of the reading; with statistics it is theirs.
        seed: of the sample where nothing calibrated.

    Raises:
        DataError: the rows of the reading cannot be read.
    """
    encoder = TextEncoder.from_directory(model_dir)
    chosen = _rows(observed, reading, seed).take(ROWS)
    wanted = max_length if observed is None else observed.origin.max_length
    if wanted is None and reading is not None:
        wanted = reading.get("max_length")
    limit = row_limit(encoder.max_length, wanted)
    fitting = int((encoder.encode(chosen, limit).lengths.cumsum() <= _TOKENS).sum())
    chosen = chosen.take(max(fitting, _FEWEST))
    encoded = encoder.encode(chosen, limit)
    # without a mask padding is text like any other, so that rows go one by one
    size = _BATCH if MASK in encoder.input_names else 1
    batches = tuple(batch.feeds for batch in encoder.batches(encoded, size))
    return Sample(chosen.source, len(chosen), batches)


def _rows(observed: Statistics | None, reading: ReadingFields | None, seed: int) -> Rows:
    if observed is not None:
        with contextlib.suppress(DataError):
            return rows_again(observed.origin, observed.origin.rows, observed.origin.seed)
    elif reading is not None:
        return rows_of(reading, ROWS, seed)
    say(f"{DEFAULT_DATA}: the noise is measured on these rows, which stand in for yours (--data).")
    return sample_rows(DEFAULT_DATA, ROWS, seed)
