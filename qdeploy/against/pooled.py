"""Files that give a vector of each token alone: pooled as their directory says, or by the mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdeploy.deploy.foreign_engine import ForeignEngine
from qdeploy.exporter.from_onnx.outputs import ROW_VECTORS, TOKEN_VECTORS
from qdeploy.exporter.from_onnx.pooling import embed
from qdeploy.exporter.sentence_parts import SentenceParts, find_parts, pooled
from qdeploy.types import Array

_NAMES = (TOKEN_VECTORS, "last_hidden_state")
_DEFAULT = "mean"


@dataclass(frozen=True)
class Pooled:
    """What makes one vector of a row.

    Attributes:
        output: of the file, FP32 [B, S, H].
        parts: pooling, and what stands behind it.
        asked: the pooling where no modules.json says one, else None.
    """

    output: str
    parts: SentenceParts
    asked: str | None


def pooled_of(directory: Path, outputs: Mapping[str, str]) -> Pooled | None:
    """How a file's vectors of tokens are pooled; None of files that give anything else to compare.

    Args:
        directory: of its tokenizer, with modules.json or without.
        outputs: of the file, with their shapes as text.

    Raises:
        CheckpointError: a part of modules.json that is not known.
    """
    output = next((name for name in _NAMES if name in outputs), None)
    if output is None or ROW_VECTORS in outputs or any("logits" in name for name in outputs):
        return None
    parts = find_parts(directory)
    return Pooled(output, parts or pooled(_DEFAULT), None if parts else _DEFAULT)


class PooledEngine(ForeignEngine):
    """A file of anybody, with `sentence_embedding` behind its own outputs."""

    def __init__(self, path: Path, made: Pooled, *, threads: int) -> None:
        super().__init__(path, threads=threads)
        self._made = made
        self.output_names = (ROW_VECTORS, *self.output_names)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; FP32 [B, D] as `sentence_embedding` beside the file's outputs."""
        found = super().run(feeds)
        rows = embed(found[self._made.output], feeds["attention_mask"], self._made.parts)
        return {ROW_VECTORS: rows.astype(np.float32), **found}
