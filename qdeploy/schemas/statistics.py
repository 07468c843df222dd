"""The origin that stands in a file of statistics."""

from __future__ import annotations

import msgspec

from qdeploy.schemas.fields import (
    Count,
    Positive,
    Text,
)
from qdeploy.schemas.reading import ReadingFields


class StatisticsOrigin(msgspec.Struct, kw_only=True):
    """See `qdeploy.calibrate.statistics.Origin`; `digests`, of each site, came later."""

    format: int
    model_sha256: Text
    data: str
    data_hash: str
    rows: Positive
    seed: int
    max_length: Positive
    row_hashes: list[str] = []
    token_classes: list[str] = []
    row_lengths: list[Count] = []
    truncated: Count = 0
    digests: dict[str, str] | None = None
    reading: ReadingFields | None = None
