"""The formats, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qdeploy.bundles import transformers_family as family
from qdeploy.bundles.fastapi_server import fastapi
from qdeploy.bundles.source import Source
from qdeploy.bundles.triton import triton

# Writes into an empty folder and returns how the bundle is loaded: a text with {out}, {parent} and
# {name} for its place.
Writer = Callable[[Source, Path], str]

FORMATS: dict[str, Writer] = {
    "sentence-transformers": family.sentence_transformers,
    "optimum": family.optimum,
    "transformers-js": family.transformers_js,
    "fastapi": fastapi,
    "triton": triton,
    "tei": family.text_embeddings_inference,
}
