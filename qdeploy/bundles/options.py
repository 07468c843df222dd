"""The options of a bundle."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.errors import PlanError
from qdeploy.options import OUTPUT, Options, option


@dataclass(frozen=True)
class BundleOptions(Options):
    """What an engine is laid out for."""

    format: str = option(
        "sentence-transformers",
        "What is to load it.",
        group=OUTPUT,
        choices="qdeploy.bundles.formats:FORMATS",
        error=PlanError,
    )
