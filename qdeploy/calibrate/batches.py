"""Rows as batches of inputs, for what runs engines: nothing here needs a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qdeploy.types import Array

MASK = "attention_mask"


@dataclass(frozen=True)
class Sample:
    """Rows as batches of inputs.

    Attributes:
        source: where they come from.
        rows: how many.
        batches: int64 [B, S] by input name.
    """

    source: str
    rows: int
    batches: tuple[Mapping[str, Array], ...]

    def first(self) -> Sample:
        """Its first batch alone."""
        return Sample(self.source, len(next(iter(self.batches[0].values()))), self.batches[:1])
