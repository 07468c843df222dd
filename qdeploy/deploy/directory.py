"""What stands in an engine directory beside its graph: files of the model, and the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qdeploy.artifact import MANIFEST
from qdeploy.calibrate.statistics import Statistics
from qdeploy.deploy.request import Request

_FROM_MODEL = (
    *("labels", "task", "head", "max_length", "pad_token_id", "vocabulary"),
    *("inputs", "outputs", "model_type"),
)


def copy_companions(source: Path, work: Path) -> None:
    """config.json and the tokenizer's files; graph, manifest and statistics stay behind."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in (MANIFEST, "model.onnx", "model.onnx.data"):
            shutil.copyfile(path, work / path.name)


def manifest_fields(
    manifest: dict[str, Any], request: Request, digest: str, observed: Statistics | None
) -> dict[str, Any]:
    """What the manifest of an engine says of its making.

    Args:
        manifest: of the model directory.
        digest: of the model (`model_digest`).
        observed: statistics that the plan was made from, or None.
    """
    calibration = None
    if observed is not None:
        origin = observed.origin
        calibration = {
            "data": origin.data,
            "data_hash": origin.data_hash,
            "rows": origin.rows,
            "seed": origin.seed,
            **origin.lengths.to_json(),
            "row_lengths": list(origin.row_lengths),
            "row_hashes": list(origin.row_hashes),
        }
    return {
        "command": "build",
        "source": {"path": request.model_dir.name, "sha256": digest},
        "target": request.target.name,
        "rest_precision": request.rest,
        "opt_shape": list(request.shape),
        "strategy": request.strategy,
        "scope": request.options.scope,
        "options": request.options.to_json(),
        "seed": request.seed,
        "calibration": calibration,
        **{key: manifest[key] for key in _FROM_MODEL if key in manifest},
    }


def size_mb(directory: Path) -> float:
    """Of the graph, its weights and the compiled plan, 10⁶ bytes."""
    files = [p for p in directory.iterdir() if p.name.startswith("model.")]
    return round(sum(p.stat().st_size for p in files) / 1e6, 3)
