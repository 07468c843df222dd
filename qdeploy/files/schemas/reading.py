"""How rows are found again, as manifests and statistics keep it."""

from __future__ import annotations

import msgspec

from qdeploy.files.schemas.fields import (
    Positive,
    Text,
)


class ColumnsForm(msgspec.Struct, kw_only=True):
    """See `qdeploy.data.tasks.Columns`."""

    first: Text
    second: Text | None = None
    label: Text


class ReadingForm(msgspec.Struct, kw_only=True):
    """See `qdeploy.data.reading.Reading`; `fingerprint` came later."""

    source: Text
    task: Text
    columns: ColumnsForm | None = None
    max_length: Positive | None = None
    fingerprint: Text | None = None
