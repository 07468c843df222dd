"""What `build` does for `qdeploy verify`: rows are run, and kept with what came out."""

from __future__ import annotations

import sys
from pathlib import Path

from qdeploy.calibrate.canary_rows import Taken, canary_rows
from qdeploy.deploy.canary import canary_of, write_canary
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.logit_noise import outputs_of
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.head import head_of
from qdeploy.onnx_file.check import GRAPH
from qdeploy.schemas.manifest import EngineFields


def store_canary(model_dir: Path, engine_dir: Path, fields: EngineFields, engine: Engine) -> None:
    """Write canary.json; nothing where outputs are not finite, which `build` warns of.

    Args:
        model_dir: model directory that the engine was built from.
        engine_dir: its directory.
        fields: of its manifest.
        engine: it, opened.
    """
    rows = canary_rows(model_dir, _taken(fields))
    reference = outputs_of(SimulatedEngine(model_dir / GRAPH), rows.sample)
    found = outputs_of(engine, rows.sample)
    head = head_of(model_dir, fields)
    canary = canary_of(rows.sample, rows.texts, reference, found, head)
    if canary is not None:
        write_canary(engine_dir, canary)


def _taken(fields: EngineFields) -> Taken:
    """The shapes that an engine was compiled for; all that its model takes where it was not."""
    shapes = (fields.get("builder") or {}).get("shapes") or {}
    fewest, shortest = shapes.get("min") or (1, 1)
    most, longest = shapes.get("max") or (sys.maxsize, fields["max_length"])
    return Taken(shortest, longest, fewest, most)
