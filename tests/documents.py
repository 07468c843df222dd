"""Documents held against their types: a key too many, or too few, is a fault."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def require_typed(document: Any, form: Any) -> None:
    """Hold a document as JSON has it against a typed dictionary.

    `msgspec` leaves out what the type does not know, at every depth, so that equality means that
    every key is known.

    Args:
        document: as a command gave it.
        form: typed dictionary of `qdeploy.schemas`.
    """
    raw = json.dumps(document)
    assert msgspec.json.decode(raw, type=form) == json.loads(raw)
