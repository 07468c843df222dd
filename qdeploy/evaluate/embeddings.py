"""Sentence embeddings: their output precisions, and how near those of two engines are.

Precisions are those of sentence-transformers' `quantize_embeddings`. They are what an embedding is
stored as; the engine computes the same in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qdeploy.errors import DataError, PlanError, choose
from qdeploy.evaluate.bootstrap import quality_of_scores
from qdeploy.head import Head
from qdeploy.schemas.quality import Quality
from qdeploy.types import Array

FLOAT32, INT8, BINARY = "float32", "int8", "binary"
PRECISIONS = (FLOAT32, INT8, BINARY)
NEIGHBOURS = 10
RECALL_AT = f"recall@{NEIGHBOURS}"
_DRAWS = 1000  # of a bootstrap
_LEVELS = 127.0  # of a component of a vector of length 1
_BLOCK = 1024  # texts whose neighbours are looked for at a time


class Closeness(NamedTuple):
    """Embeddings of an engine beside those of FP32.

    Attributes:
        cosine_mean, cosine_p5: of each text with itself: the mean, and what 95 % are above.
        recall: of the ten nearest other texts by FP32, the share that the engine finds among its
            own ten; None of fewer than eleven texts.
    """

    cosine_mean: float
    cosine_p5: float
    recall: float | None


@dataclass(frozen=True)
class Neighbours:
    """What the recall of neighbours is computed from (`qdeploy.evaluate.bootstrap.Scored`).

    Attributes:
        hits: int64 [texts], of the ten nearest others by FP32 those that are found.
    """

    hits: Array

    def count(self, name: str) -> int:
        """The texts."""
        return len(self.hits)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """The recall of all texts, or of those that were drawn."""
        return float((self.hits if drawn is None else self.hits[drawn]).mean()) / NEIGHBOURS


def neighbour_quality(own: Array, base: Array | None, seed: int = 0) -> Quality:
    """The recall of FP32's nearest texts, which needs no scores; 1 for FP32 itself.

    Args:
        own, base: FP32 [N, D] of an engine, and of FP32; None where the engine is FP32.
        seed: of the bootstrap.

    Raises:
        DataError: no more texts than neighbours.
    """
    reference = unit(own if base is None else base)
    found = neighbours_found(reference, unit(own))
    if not len(found):
        raise DataError(
            f"{len(own)} texts have no {NEIGHBOURS} others each to look for. Give {NEIGHBOURS + 1} "
            "different texts or more."
        )
    theirs = None if base is None else Neighbours(np.full_like(found, NEIGHBOURS))
    return quality_of_scores((RECALL_AT,), len(own), Neighbours(found), theirs, seed, draws=_DRAWS)


def closeness(reference: Array, found: Array) -> Closeness:
    """How near two engines embed the same texts; FP32 [N, D] each."""
    exact, other = unit(reference), unit(found)
    cosines = np.einsum("nd,nd->n", exact, other, dtype=np.float64)
    return Closeness(
        float(cosines.mean()), float(np.percentile(cosines, 5)), recall_at(exact, other)
    )


def recall_at(reference: Array, found: Array, count: int = NEIGHBOURS) -> float | None:
    """The share of each text's nearest others that another set of embeddings finds too.

    Args:
        reference, found: FP32 [N, D] of length 1.
        count: of neighbours.

    Returns:
        None where there are no more texts than neighbours.
    """
    hits = neighbours_found(reference, found, count)
    return float(hits.sum()) / (len(hits) * count) if len(hits) else None


def neighbours_found(reference: Array, found: Array, count: int = NEIGHBOURS) -> Array:
    """Of each text's nearest others, how many another set of embeddings finds too.

    Texts that FP32 embeds alike are one: which of them is the nearer is a matter of roundings.

    Args, see `recall_at`.

    Returns:
        Int64 [texts that differ]; empty where these are no more than neighbours.
    """
    _, first = np.unique(reference, axis=0, return_index=True)
    reference, found = reference[np.sort(first)], found[np.sort(first)]
    if len(reference) <= count:
        return np.empty(0, np.int64)
    hits = list[int]()
    for start in range(0, len(reference), _BLOCK):
        near, also = (
            _nearest(vectors, start, start + _BLOCK, count) for vectors in (reference, found)
        )
        hits += (len(set(a) & set(b)) for a, b in zip(near, also, strict=True))
    return np.array(hits, np.int64)


def _nearest(vectors: Array, start: int, end: int, count: int) -> list[list[int]]:
    """The nearest others of some texts, by cosine."""
    scores = vectors[start:end] @ vectors.T
    own = np.arange(len(scores))
    scores[own, own + start] = -np.inf
    best: list[list[int]] = np.argpartition(-scores, count, axis=1)[:, :count].tolist()
    return best


def unit(vectors: Array) -> Array:
    """Vectors at length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Array = vectors / np.where(lengths > 0, lengths, 1.0)
    return result


def prompt_of(head: Head, name: str | None, text: str | None) -> str | None:
    """What stands in front of each text; None where it is the model's own default.

    Args:
        head: of the model.
        name: of one of its prompts, or None.
        text: a prompt itself, or None.

    Raises:
        PlanError: both, or no such name.
    """
    if name is None:
        return text
    known = {} if head.embedding is None else head.embedding.get("prompts", {})
    if text is not None:
        raise PlanError("Pass prompt_name or prompt, not both.")
    if not known:
        raise PlanError(f"prompt_name is '{name}', and the checkpoint has no prompts. Pass prompt.")
    return known[choose("prompt name", name, tuple(known), PlanError)]


def cut(embeddings: Array, head: Head, dimensions: int | None) -> Array:
    """The first dimensions of each vector, of length 1 again where the whole ones are (Matryoshka
    representations, Kusupati et al. 2022, arXiv 2205.13147).

    Args:
        embeddings: FP32 [N, D].
        head: of the model.
        dimensions: how many are kept; None keeps all.

    Raises:
        PlanError: more than there are, or none.
    """
    if dimensions is None:
        return embeddings
    size = embeddings.shape[-1]
    whole = isinstance(dimensions, int | np.integer) and not isinstance(dimensions, bool)
    if not whole or not 1 <= dimensions <= size:
        raise PlanError(
            f"truncate_dim is {dimensions}, and an embedding has {size}: give 1 to {size}."
        )
    kept = embeddings[..., :dimensions]
    assert head.embedding is not None
    return unit(kept) if head.embedding["normalized"] else np.ascontiguousarray(kept)


def stored(embeddings: Array, precision: str) -> Array:
    """Embeddings in the precision that they are stored in.

    Args:
        embeddings: FP32 [N, D].
        precision: "float32"; "int8": int8 [N, D], 127 times each vector at length 1, rounded, so
            that cosines stay and no ranges have to be kept; "binary": uint8 [N, ⌈D / 8⌉], a bit
            for each positive component, the first in the highest bit of the first byte.

    Raises:
        PlanError: another precision.
    """
    choose("output precision", precision, PRECISIONS, PlanError)
    if precision == INT8:
        scaled: Array = np.clip(np.rint(unit(embeddings) * _LEVELS), -_LEVELS, _LEVELS)
        return scaled.astype(np.int8)
    if precision == BINARY:
        return np.packbits(embeddings > 0, axis=-1)
    return embeddings
