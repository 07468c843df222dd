"""Bytes of an engine directory on disk."""

from __future__ import annotations

from pathlib import Path

from qdeploy.errors import ModelError
from qdeploy.onnx_file.check import check_inside, weight_bytes
from qdeploy.schemas.evaluation import Size

_MB = 1e6


def engine_size(engine_dir: str | Path) -> Size:
    """Size of a directory, MB of 10⁶ bytes.

    Returns:
        `total`: every file; `model`: `model.*`, the graph with its weights; `weights`: the
        initializers of an ONNX graph, or the whole file of an engine that only its target reads.

    Raises:
        ModelError: no such directory, no `model.*` in it, or its ONNX file is corrupted.
    """
    directory = Path(engine_dir)
    files = [path for path in directory.rglob("*") if path.is_file()]
    model = [path for path in files if path.parent == directory and path.name.startswith("model.")]
    if not model:
        raise ModelError(f"{directory} holds no model.onnx and no model.plan. Build it again.")
    bytes_of_model = sum(path.stat().st_size for path in model)
    plan = directory / "model.plan"  # an ONNX file beside it only names it
    weights = plan.stat().st_size if plan.is_file() else _weights(directory / "model.onnx")
    return {
        "total": sum(path.stat().st_size for path in files) / _MB,
        "model": bytes_of_model / _MB,
        "weights": weights / _MB,
    }


def _weights(path: Path) -> int:
    check_inside(path)
    return weight_bytes(path)
