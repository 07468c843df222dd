"""How rows are found again, as manifests and statistics keep it."""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import (
    Positive,
    Text,
)


class ColumnFields(TypedDict):
    """See `qdeploy.data.tasks.Columns`."""

    first: Text
    second: NotRequired[Text | None]
    label: Text
    classes: NotRequired[list[Text]]
    separator: NotRequired[Text]


class ReadingFields(TypedDict):
    """See `qdeploy.data.reading.Reading`; `fingerprint` came later."""

    source: Text
    task: Text
    columns: NotRequired[ColumnFields | None]
    max_length: NotRequired[Positive | None]
    fingerprint: NotRequired[Text | None]
