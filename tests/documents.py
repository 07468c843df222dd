"""Documents held against their types: a key too many, or too few, is a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from qdeploy.schemas.sweep import FinishedTrial, SweepFields, TrialAccuracy, TrialLatency


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


def require_typed_sweep(folder: Path, result: Any) -> None:
    """The same of sweep.json, whose trials all ended with figures, and of their files.

    `msgspec` builds no union of typed dictionaries: trials are held one by one.
    """
    require_typed({k: v for k, v in result.items() if k != "trials"}, SweepFields)
    for trial in result["trials"]:
        require_typed(trial, FinishedTrial)
        for name, form in (("accuracy", TrialAccuracy), ("latency", TrialLatency)):
            path = folder / "trials" / trial["key"] / f"{name}.json"
            require_typed(json.loads(path.read_text("utf-8")), form)
